import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { type Client, type ClientReadableStream, credentials, Metadata } from '@grpc/grpc-js'
import { SpiffeWorkloadAPIClient, type X509SVIDResponse } from '../spiffe/workload-api/index.js'
import { type TempFolder, tempFolder } from '../test/support/temp-folder.js'
import {
  type AgentPlace,
  agentArgs,
  agentSocket,
  evidence,
  median,
  monotonicMs,
  printConditions,
  run,
  type Sentry,
  type Starting,
  sentryArgs,
  sidecarArgs,
  start,
  startSentry,
  TRUST_DOMAIN,
} from './product.js'

/**
 * PF-15: how long the built programs take from `exec` until they are of use, in real processes on real
 * sockets: an agent until its first SVID is in a client's hands, a sidecar and a sentry until they are
 * ready. The reference is a node process that does nothing.
 * `node dist/bench/start.js [rounds] [sentry,agent,sidecar]`
 *
 * CPU seconds are given beside the milliseconds: they do not grow when the machine is busy.
 */
const ROUNDS = Number(process.argv[2] ?? 9)
const PARTS = new Set((process.argv[3] ?? 'sentry,agent,sidecar').split(','))
const LOOK_AGAIN_MS = 3
const ALIAS = `spiffe://${TRUST_DOMAIN}/bench/agent`
const WORKLOAD = `spiffe://${TRUST_DOMAIN}/ns/shop/sa/orders`

interface Sample {
  readonly ms: number
  readonly cpuMs: number
}

const samples = new Map<string, Sample[]>()

async function main(): Promise<void> {
  printConditions()
  await using folder = await tempFolder()
  await using sentry = await startSentry(folder)
  const selectors = [`unix:uid:${process.getuid?.()}`]
  await sentry.setup.entry({ spiffeId: WORKLOAD, parentId: ALIAS, selectors, ttlSeconds: 3600 })
  for (let round = 0; round < ROUNDS; round += 1) await playRound({ folder, sentry, round })
  report()
}

interface Place extends AgentPlace {
  readonly sentry: Sentry
}

interface Stage extends Omit<Place, 'name'> {
  readonly round: number
}

async function playRound({ folder, sentry, round }: Stage): Promise<void> {
  const place = { folder, sentry, name: `agent-${round}` }
  await measureEmpty()
  if (PARTS.has('sentry')) await measureSentry(folder, `sentry-${round}`)
  if (PARTS.has('agent')) await measureAgents(place)
  if (PARTS.has('sidecar')) await measureSidecar(place, round)
}

async function measureEmpty(): Promise<void> {
  const startedAt = monotonicMs()
  const child = spawn(process.execPath, ['-e', 'process.stdout.write("."),process.stdin.resume()'])
  await once(child.stdout, 'data')
  note('node that does nothing', { ms: monotonicMs() - startedAt, cpuMs: cpuMsOf(child.pid!) })
  await endOf(child)
}

async function measureSentry(folder: TempFolder, name: string): Promise<void> {
  const own: TempFolder = { ...folder, file: (path) => folder.file(`${name}-${path}`) }
  for (const label of ['sentry, first start: to ready', 'sentry, again: to ready']) {
    await using program = await run(sentryArgs(own))
    note(label, { ms: program.readyMs, cpuMs: cpuMsOf(program.pid) })
  }
}

async function measureAgents(place: Place): Promise<void> {
  const { folder, sentry } = place
  const proof = await evidence(sentry, { folder, alias: ALIAS })
  const alone = { ...place, sentry: { address: '127.0.0.1:9' } }
  await measureAgent('agent, first start: to the first SVID', place, proof)
  await measureAgent('agent, with sealed state: to the first SVID', place, [])
  await measureAgent('agent, with sealed state, no sentry: to the first SVID', alone, [])
}

async function measureAgent(
  label: string,
  place: AgentPlace,
  proof: readonly string[],
): Promise<void> {
  const agent = start([...agentArgs(place), ...proof])
  try {
    const served = await firstSvid(agentSocket(place), agent)
    note(label, { ms: served - agent.startedAt, cpuMs: cpuMsOf(agent.pid) })
  } finally {
    await agent.stop()
  }
}

/** The moment at which a client that was waiting has its SVID. */
async function firstSvid(path: string, agent: Starting): Promise<number> {
  const client = await Promise.race([clientOn(path), failureOf(agent)])
  const metadata = new Metadata()
  metadata.set('workload.spiffe.io', 'true')
  try {
    for (;;) {
      if (await isServed(client.fetchX509Svid({}, metadata))) return monotonicMs()
      await pause()
    }
  } finally {
    client.close()
  }
}

function failureOf(agent: Starting): Promise<never> {
  return new Promise((_, reject) => {
    agent.ready.catch(reject)
  })
}

async function clientOn(path: string): Promise<SpiffeWorkloadAPIClient> {
  while (!(await accepts(path))) await pause()
  const client: Client = new SpiffeWorkloadAPIClient(`unix:${path}`, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  })
  return client as SpiffeWorkloadAPIClient
}

function accepts(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('error', () => resolve(false))
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
  })
}

function isServed(call: ClientReadableStream<X509SVIDResponse>): Promise<boolean> {
  return new Promise((resolve) => {
    call.on('error', () => resolve(false))
    call.once('data', ({ svids }: X509SVIDResponse) => {
      resolve(svids.some(({ spiffeId }) => spiffeId === WORKLOAD))
      call.cancel()
    })
  })
}

async function measureSidecar(place: Place, round: number): Promise<void> {
  const { folder, sentry } = place
  await using _agent = await run([
    ...agentArgs(place),
    ...(await evidence(sentry, { folder, alias: ALIAS })),
  ])
  const dataFolder = folder.file(`sidecar-${round}`)
  const args = sidecarArgs({ socket: agentSocket(place), dataFolder })
  for (const label of ['sidecar, first start: to ready', 'sidecar, again: to ready']) {
    await using program = await run(args)
    note(label, { ms: program.readyMs, cpuMs: cpuMsOf(program.pid) })
  }
}

/** Of all threads since the process began; the kernel counts in steps of 10 ms. */
function cpuMsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}

function note(label: string, sample: Sample): void {
  const known = samples.get(label)
  if (known) known.push(sample)
  else samples.set(label, [sample])
}

function report(): void {
  const reference = median((samples.get('node that does nothing') ?? []).map(({ ms }) => ms))
  console.log(`\n${'median of rounds'.padEnd(56)}     ms   CPU ms   least ms   of node`)
  for (const [label, taken] of samples) {
    const ms = median(taken.map((sample) => sample.ms))
    const cpu = median(taken.map((sample) => sample.cpuMs))
    const least = Math.min(...taken.map((sample) => sample.ms))
    const cells = [
      ms.toFixed(0).padStart(7),
      cpu.toFixed(0).padStart(9),
      least.toFixed(0).padStart(11),
    ]
    console.log(`${label.padEnd(56)}${cells.join('')}${(ms / reference).toFixed(1).padStart(10)}`)
  }
  console.log(
    '\nPF-15  agent to the first SVID served, sidecar to ready: floor 2000 ms, goal 500 ms',
  )
}

async function endOf(child: ChildProcess): Promise<void> {
  child.stdin?.end()
  await once(child, 'exit')
}

const pause = () => new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS))

await main()

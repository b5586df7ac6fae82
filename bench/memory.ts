import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type Client, type ClientReadableStream, credentials, Metadata } from '@grpc/grpc-js'
import { SpiffeWorkloadAPIClient, type X509SVIDResponse } from '../spiffe/workload-api/index.js'
import { type TempFolder, tempFolder } from '../test/support/temp-folder.js'
import {
  agentArgs,
  evidence,
  furtherSocket,
  median,
  printConditions,
  run,
  type Sentry,
  sidecarArgs,
  startSentry,
  TRUST_DOMAIN,
} from './product.js'

/**
 * PF-14: what the built programs hold resident once they have settled: an agent whose hundred workloads
 * each have a stream open on a socket of their own, the same agent without workloads and after many
 * rotations, an idle sidecar, and the sentry. The reference is a node process that does nothing.
 * `node dist/bench/memory.js [rounds] [settle seconds] [agent,sidecar]`
 */
const ROUNDS = Number(process.argv[2] ?? 3)
const SETTLE_MS = Number(process.argv[3] ?? 15) * 1000
const PARTS = new Set((process.argv[4] ?? 'agent,sidecar').split(','))
const WORKLOADS = 100
const LONG_TTL_SECONDS = 3600
/** So that every SVID is replaced several times while the agent settles. */
const SHORT_TTL_SECONDS = 6

interface Sample {
  readonly rss: number
  /** Not shared with any other process, nor a page of a file. */
  readonly anonymous: number
}

const samples = new Map<string, Sample[]>()
const names = Array.from({ length: WORKLOADS }, (_, at) => `${at}`)

async function main(): Promise<void> {
  printConditions()
  for (let round = 0; round < ROUNDS; round += 1) {
    await measureEmpty()
    if (PARTS.has('agent')) {
      await measureAgent('agent, no workload', [], LONG_TTL_SECONDS)
      await measureAgent(`agent, ${WORKLOADS} workloads`, names, LONG_TTL_SECONDS)
      await measureAgent(`agent, ${WORKLOADS} workloads, rotating`, names, SHORT_TTL_SECONDS)
    }
    if (PARTS.has('sidecar')) await measureSidecar()
  }
  report()
}

async function measureEmpty(): Promise<void> {
  const child = spawn(process.execPath, ['-e', 'process.stdin.resume()'])
  await settled()
  note('node that does nothing', child.pid!)
  child.stdin.end()
  await once(child, 'exit')
}

async function measureAgent(
  label: string,
  sockets: readonly string[],
  ttlSeconds: number,
): Promise<void> {
  await using folder = await tempFolder()
  await using sentry = await startSentry(folder)
  await using agent = await startAgent({ folder, sentry, sockets, ttlSeconds })
  const streams = sockets.map((name) => openStream(furtherSocket(folder, name)))
  try {
    await Promise.all(streams.map(({ served }) => served))
    await settled()
    note(label, agent.pid)
    if (sockets.length > 0) note(`sentry beside: ${label}`, sentry.program.pid)
  } finally {
    for (const { close } of streams) close()
  }
}

async function measureSidecar(): Promise<void> {
  await using folder = await tempFolder()
  await using sentry = await startSentry(folder)
  const ttlSeconds = LONG_TTL_SECONDS
  await using _agent = await startAgent({ folder, sentry, sockets: ['0'], ttlSeconds })
  const place = { socket: furtherSocket(folder, '0'), dataFolder: folder.file('sidecar') }
  await using sidecar = await run(sidecarArgs(place))
  await settled()
  note('sidecar, idle', sidecar.pid)
}

interface AgentOf {
  readonly folder: TempFolder
  readonly sentry: Sentry
  readonly sockets: readonly string[]
  readonly ttlSeconds: number
}

async function startAgent({ folder, sentry, sockets, ttlSeconds }: AgentOf) {
  const alias = `spiffe://${TRUST_DOMAIN}/bench/agent`
  for (const name of sockets) {
    await sentry.setup.entry({
      spiffeId: `spiffe://${TRUST_DOMAIN}/ns/shop/sa/app-${name}`,
      parentId: alias,
      selectors: [`unix:uid:${process.getuid?.()}`, `socket:${name}`],
      ttlSeconds,
    })
  }
  const place = { folder, sentry, name: 'agent', sockets }
  return run([...agentArgs(place), ...(await evidence(sentry, { folder, alias }))])
}

/** A workload that holds on to its stream, as the standard has it. */
function openStream(path: string) {
  const plain: Client = new SpiffeWorkloadAPIClient(`unix:${path}`, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  })
  const metadata = new Metadata()
  metadata.set('workload.spiffe.io', 'true')
  const client = plain as SpiffeWorkloadAPIClient
  const call: ClientReadableStream<X509SVIDResponse> = client.fetchX509Svid({}, metadata)
  const served = new Promise<void>((resolve, reject) => {
    call.on('data', () => resolve())
    call.on('error', reject)
  })
  return {
    served,
    close() {
      call.cancel()
      client.close()
    },
  }
}

function note(label: string, pid: number): void {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1')
  const mb = (name: string) => Number(new RegExp(`^${name}: +(\\d+)`, 'm').exec(rollup)?.[1]) / 1024
  const taken = samples.get(label) ?? []
  taken.push({ rss: mb('Rss'), anonymous: mb('Anonymous') })
  samples.set(label, taken)
}

function report(): void {
  const rss = (label: string) => median((samples.get(label) ?? []).map((sample) => sample.rss))
  const reference = rss('node that does nothing')
  console.log(`\n${'median of rounds, MB'.padEnd(46)}resident   anonymous   of node`)
  for (const [label, taken] of samples) {
    const anonymous = median(taken.map((sample) => sample.anonymous))
    const cells = [rss(label).toFixed(1).padStart(8), anonymous.toFixed(1).padStart(12)]
    const ratio = (rss(label) / reference).toFixed(2).padStart(10)
    console.log(`${label.padEnd(46)}${cells.join('')}${ratio}`)
  }
  console.log('\nPF-14  agent with 100 workloads: floor 130 MB, goal 90 MB')
  console.log('PF-14  idle sidecar: floor 110 MB, goal 70 MB')
}

const settled = () => new Promise((resolve) => setTimeout(resolve, SETTLE_MS))

await main()

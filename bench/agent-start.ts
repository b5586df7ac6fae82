import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { type ClientReadableStream, credentials, Metadata } from '@grpc/grpc-js'
import { systemClock } from '../platform/clock.js'
import { toPem } from '../spiffe/index.js'
import { SpiffeWorkloadAPIClient, type X509SVIDResponse } from '../spiffe/workload-api/index.js'
import { testAuthority } from '../test/support/authority.js'
import { entry, type FakeSentry, fakeSentry } from '../test/support/fake-sentry.js'
import { type TempFolder, tempFolder } from '../test/support/temp-folder.js'

/**
 * How long the agent takes from its start to the first SVID in a workload's hands (PF-15), with a join
 * token and from its sealed state with the sentry away, against the start of a bare Node; how long an
 * entry takes from the sentry's push to a workload (the agent's share of PF-13); and what the agent
 * weighs with 100 workloads (PF-14). The sentry is a fake one in this process.
 */

const ROUNDS = 9
const WORKLOADS = 100
const PUSHES = 40
const READY_FD = 3
const MAIN = fileURLToPath(new URL('../cli/main.js', import.meta.url))
const TRUST_DOMAIN = 'bench.test'

interface Bench {
  readonly sentry: FakeSentry
  readonly bundlePath: string
  readonly root: TempFolder
}

interface RunningAgent {
  readonly child: ChildProcess
  readonly socket: string
  readonly readyMs: number
  readonly firstSvidMs: number
}

async function main(): Promise<void> {
  await using root = await tempFolder()
  const authority = testAuthority(TRUST_DOMAIN)
  await using sentry = await fakeSentry({ authority, clock: systemClock })
  sentry.setEntries(...Array.from({ length: WORKLOADS }, (_, at) => workload(at)))
  const bundlePath = root.file('bundle.pem')
  await writeFile(bundlePath, toPem('CERTIFICATE', authority.root.certificate.der))
  const bench = { sentry, bundlePath, root }

  const bare: number[] = []
  const first: number[] = []
  const again: number[] = []
  for (let round = 0; round < ROUNDS; round += 1) {
    bare.push(await bareStart())
    first.push(await oneStart(bench, `a${round}`, true))
    await sentry.stop()
    again.push(await oneStart(bench, `a${round}`, false))
    await sentry.start()
  }
  report('bare Node, start to end', bare, bare)
  report('agent with a join token, start to first SVID', first, bare)
  report('agent from sealed state, sentry away', again, bare)
  console.log(`PF-15: floor 2000 ms, goal 500 ms\n`)
  await weighAndPush(bench)
}

/** Entries of other users, and one of ours. */
function workload(at: number) {
  const selector = at === 0 ? `unix:uid:${process.getuid?.() ?? 0}` : `unix:uid:${70_000 + at}`
  return entry({
    id: `e${at}`,
    path: `/workload/${at}`,
    trustDomain: TRUST_DOMAIN,
    selectors: [selector],
  })
}

async function bareStart(): Promise<number> {
  const start = performance.now()
  await once(spawn(process.execPath, ['-e', '0'], { stdio: 'ignore' }), 'exit')
  return performance.now() - start
}

async function oneStart(bench: Bench, name: string, attest: boolean): Promise<number> {
  const agent = await startAgent(bench, name, attest)
  agent.child.kill('SIGTERM')
  await once(agent.child, 'exit')
  return agent.firstSvidMs
}

async function startAgent(bench: Bench, name: string, attest: boolean): Promise<RunningAgent> {
  const { sentry, bundlePath, root } = bench
  const socket = root.file(`${name}.sock`)
  const tokenPath = root.file(`${name}.token`)
  if (attest) {
    sentry.addToken(name)
    await writeFile(tokenPath, name)
  }
  const args = {
    'trust-domain': TRUST_DOMAIN,
    'data-dir': root.file(name),
    sentry: sentry.address,
    'trust-bundle': bundlePath,
    'join-token-file': tokenPath,
    socket,
    'admin-socket': root.file(`${name}.admin`),
    'admin-listen': '127.0.0.1:0',
    'log-level': 'silent',
  }
  const start = performance.now()
  const child = spawn(
    process.execPath,
    [MAIN, 'agent', 'run', ...Object.entries(args).flatMap(([key, value]) => [`--${key}`, value])],
    {
      stdio: ['pipe', 'inherit', 'inherit', 'pipe'],
      env: {
        ...process.env,
        COUNTERSIGN_READY_FD: String(READY_FD),
        COUNTERSIGN_STOP_WITH_PARENT: '1',
      },
    },
  )
  await firstLine(child.stdio[READY_FD] as Readable)
  const readyMs = performance.now() - start
  const stream = openStream(socket)
  await svids(stream, 1)
  const firstSvidMs = performance.now() - start
  stream.close()
  return { child, socket, readyMs, firstSvidMs }
}

async function firstLine(pipe: Readable): Promise<void> {
  for await (const _ of createInterface({ input: pipe })) return
  throw new Error('the agent ended before it was ready')
}

interface OpenStream {
  readonly stream: ClientReadableStream<X509SVIDResponse>
  close(): void
}

function openStream(socket: string): OpenStream {
  const client = new SpiffeWorkloadAPIClient(`unix:${socket}`, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  })
  const metadata = new Metadata()
  metadata.set('workload.spiffe.io', 'true')
  const stream = client.fetchX509Svid({}, metadata)
  stream.on('error', () => {})
  return {
    stream,
    close() {
      stream.cancel()
      client.close()
    },
  }
}

/** Resolves with the first message that holds as many SVIDs. */
async function svids({ stream }: OpenStream, count: number): Promise<void> {
  for (;;) {
    const [response] = (await once(stream, 'data')) as [X509SVIDResponse]
    if (response.svids.length >= count) return
  }
}

async function weighAndPush(bench: Bench): Promise<void> {
  const { child, socket } = await startAgent(bench, 'weighed', true)
  const idle = await residentMb(child)
  const watching = openStream(socket)
  const streams = [watching, ...Array.from({ length: WORKLOADS - 1 }, () => openStream(socket))]
  await Promise.all(streams.map((stream) => svids(stream, 1)))
  const busy = await residentMb(child)
  const taken: number[] = []
  for (let round = 0; round < PUSHES; round += 1) {
    const arrived = svids(watching, round + 2)
    const start = performance.now()
    bench.sentry.setEntries({ ...workload(0), id: `new-${round}` })
    await arrived
    taken.push(performance.now() - start)
  }
  const sorted = taken.sort((a, b) => a - b)
  console.log(
    `entry pushed to SVID in the workload's hands: median ${median(sorted).toFixed(1)} ms, ` +
      `worst of ${PUSHES} ${(sorted.at(-1) ?? 0).toFixed(1)} ms, ${WORKLOADS} streams open`,
  )
  console.log(`PF-13: floor 1000 ms, goal 200 ms (p99, 1,000 agents, all of the way)`)
  console.log(
    `resident memory with ${WORKLOADS} entries: ${idle.toFixed(0)} MB, ` +
      `with ${WORKLOADS} workloads connected ${busy.toFixed(0)} MB`,
  )
  console.log(`PF-14: floor 130 MB, goal 90 MB`)
  for (const stream of streams) stream.close()
  child.kill('SIGTERM')
  await once(child, 'exit')
}

async function residentMb({ pid }: ChildProcess): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, 'latin1')
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(text)?.[1]) / 1024
}

function report(name: string, samples: readonly number[], reference: readonly number[]): void {
  const ms = median(samples)
  const ratio = ms / median(reference)
  console.log(
    `${name.padEnd(46)} ${ms.toFixed(0).padStart(6)} ms  ${ratio.toFixed(1).padStart(5)}x`,
  )
}

function median(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

await main()

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import {
  type ClientReadableStream,
  credentials,
  Metadata,
  makeGenericClientConstructor,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
} from '@grpc/grpc-js'
import { openLocalEndpoints } from '../agent/local/endpoints.js'
import { systemClock } from '../platform/clock.js'
import { silentLog } from '../platform/log.js'
import { systemRandom } from '../platform/random.js'
import { SpiffeWorkloadAPIClient } from '../spiffe/workload-api/index.js'
import { fakeIdentities } from '../test/support/fake-identities.js'
import { tempFolder } from '../test/support/temp-folder.js'

/**
 * What a call of the Workload API costs, with the caller looked at by the kernel each time, against a
 * bare gRPC server on a Unix socket that answers as many bytes; and how long one change takes to reach a
 * thousand streams (PF-5). Servers run in processes of their own, this process is the client.
 */

const ROUNDS = 7
const SERIAL_CALLS = 400
const CONNECTIONS = 64
const CALLS_PER_CONNECTION = 40
const STREAMS = 1000
const STREAMS_PER_CONNECTION = 100
const FAN_OUTS = 15

/** About what one SVID with its key and bundle takes. */
const ANSWER_BYTES = 1900

const raw = (bytes: Buffer) => bytes
const bareMethod = (path: string, responseStream: boolean) => ({
  path,
  requestStream: false,
  responseStream,
  requestSerialize: raw,
  requestDeserialize: raw,
  responseSerialize: raw,
  responseDeserialize: raw,
})
const bareService = {
  echo: bareMethod('/bare.Echo/Echo', false),
  follow: bareMethod('/bare.Echo/Follow', true),
}

interface Caller {
  call(): Promise<void>
  close(): void
}

interface Contender {
  readonly name: string
  readonly connect: () => Caller
}

async function main(): Promise<void> {
  await using folder = await tempFolder()
  const [agentPath, barePath] = [folder.file('agent.sock'), folder.file('bare.sock')]
  const agent = await startServer('agent', agentPath)
  const bare = await startServer('bare', barePath)
  try {
    await compareCalls(agentPath, barePath)
    await compareFanOut({ agent, agentPath, bare, barePath })
  } finally {
    agent.kill()
    bare.kill()
  }
}

async function compareCalls(agentPath: string, barePath: string): Promise<void> {
  const contenders: readonly Contender[] = [
    { name: 'bare unary', connect: () => bareUnary(barePath) },
    { name: 'bare stream, first message', connect: () => bareStream(barePath) },
    { name: 'FetchJWTSVID', connect: () => fetchJwt(agentPath) },
    { name: 'FetchX509SVID, first message', connect: () => fetchX509(agentPath) },
  ]
  for (const [connections, calls] of [
    [1, SERIAL_CALLS],
    [CONNECTIONS, CALLS_PER_CONNECTION],
  ] as const) {
    const samples = new Map(contenders.map(({ name }) => [name, [] as number[][]]))
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const { name, connect } of contenders) {
        samples.get(name)?.push(await measure(connect, connections, calls))
      }
    }
    printLatencies(`${connections} connection${connections > 1 ? 's' : ''}`, samples)
  }
}

/** Microseconds of each call, the connections calling at the same time. */
async function measure(
  connect: () => Caller,
  connections: number,
  calls: number,
): Promise<number[]> {
  const callers = Array.from({ length: connections }, connect)
  await Promise.all(callers.map((caller) => caller.call()))
  const taken: number[] = []
  await Promise.all(
    callers.map(async (caller) => {
      for (let call = 0; call < calls; call += 1) {
        const start = performance.now()
        await caller.call()
        taken.push((performance.now() - start) * 1000)
      }
    }),
  )
  for (const caller of callers) caller.close()
  return taken
}

function printLatencies(title: string, samples: ReadonlyMap<string, readonly number[][]>): void {
  const p50 = (name: string) =>
    median((samples.get(name) ?? []).map((taken) => quantile(taken, 0.5)))
  const reference = p50('bare unary')
  console.log(`\n${title}`)
  for (const [name, rounds] of samples) {
    const p99 = median(rounds.map((taken) => quantile(taken, 0.99)))
    const ratio = p50(name) / reference
    console.log(
      `  ${name.padEnd(30)} p50 ${us(p50(name))}  p99 ${us(p99)}  ${ratio.toFixed(2)} of bare unary`,
    )
  }
}

interface FanOut {
  readonly agent: ChildProcess
  readonly agentPath: string
  readonly bare: ChildProcess
  readonly barePath: string
}

async function compareFanOut({ agent, agentPath, bare, barePath }: FanOut): Promise<void> {
  const followed = {
    agent: await follow(() => workloadStreams(agentPath)),
    bare: await follow(() => bareStreams(barePath)),
  }
  const taken = { agent: [] as number[], bare: [] as number[] }
  const stalls: number[] = []
  for (let round = 0; round < FAN_OUTS; round += 1) {
    taken.bare.push(await followed.bare.untilLast(() => bare.send('change')))
    taken.agent.push(await followed.agent.untilLast(() => agent.send('change')))
    stalls.push(await stallOf(agent))
  }
  const [ours, theirs] = [median(taken.agent), median(taken.bare)]
  console.log(
    `\none change to ${STREAMS} streams over ${STREAMS / STREAMS_PER_CONNECTION} connections`,
  )
  console.log(`  bare stream                    ${theirs.toFixed(1)} ms to the last`)
  console.log(`  FetchX509Bundles               ${ours.toFixed(1)} ms to the last`)
  console.log(`  ratio                          ${(ours / theirs).toFixed(2)} of a bare gRPC push`)
  console.log(`  longest stall of the agent     ${median(stalls).toFixed(1)} ms`)
  followed.agent.close()
  followed.bare.close()
}

interface Streams {
  readonly calls: readonly ClientReadableStream<unknown>[]
  close(): void
}

async function follow(open: () => Streams) {
  const { calls, close } = open()
  let waiting = calls.length
  let done = () => {}
  for (const call of calls) {
    call.on('error', () => undefined)
    call.on('data', () => {
      waiting -= 1
      if (waiting === 0) done()
    })
  }
  const all = () =>
    new Promise<void>((resolve) => {
      done = resolve
    })
  await all()
  return {
    close,
    async untilLast(change: () => void): Promise<number> {
      waiting = calls.length
      const last = all()
      const start = performance.now()
      change()
      await last
      return performance.now() - start
    },
  }
}

const OWN_CONNECTION = { 'grpc.use_local_subchannel_pool': 1 }
const metadata = new Metadata()
metadata.set('workload.spiffe.io', 'true')

const BareClient = makeGenericClientConstructor(bareService, 'Echo')
const bareClient = (path: string) =>
  new BareClient(`unix:${path}`, credentials.createInsecure(), OWN_CONNECTION)
const workloadClient = (path: string) =>
  new SpiffeWorkloadAPIClient(`unix:${path}`, credentials.createInsecure(), OWN_CONNECTION)

function bareUnary(path: string): Caller {
  const client = bareClient(path)
  const { path: rpc } = bareService.echo
  return {
    close: () => client.close(),
    call: () =>
      settled((done) => client.makeUnaryRequest(rpc, raw, raw, Buffer.alloc(10), metadata, done)),
  }
}

function bareStream(path: string): Caller {
  const client = bareClient(path)
  const { path: rpc } = bareService.follow
  return {
    close: () => client.close(),
    call: () => firstOf(client.makeServerStreamRequest(rpc, raw, raw, Buffer.alloc(0), metadata)),
  }
}

function fetchJwt(path: string): Caller {
  const client = workloadClient(path)
  const request = { audience: ['orders'], spiffeId: '' }
  return {
    close: () => client.close(),
    call: () => settled((done) => client.fetchJwtsvid(request, metadata, done)),
  }
}

function fetchX509(path: string): Caller {
  const client = workloadClient(path)
  return { close: () => client.close(), call: () => firstOf(client.fetchX509Svid({}, metadata)) }
}

function workloadStreams(path: string): Streams {
  return streams(() => {
    const client = workloadClient(path)
    return { client, open: () => client.fetchX509Bundles({}, metadata) }
  })
}

function bareStreams(path: string): Streams {
  return streams(() => {
    const client = bareClient(path)
    const { path: rpc } = bareService.follow
    const open = () => client.makeServerStreamRequest(rpc, raw, raw, Buffer.alloc(0), metadata)
    return { client, open }
  })
}

function streams(
  connect: () => {
    readonly client: { close(): void }
    readonly open: () => ClientReadableStream<unknown>
  },
): Streams {
  const connections = Array.from({ length: STREAMS / STREAMS_PER_CONNECTION }, connect)
  return {
    calls: connections.flatMap(({ open }) => Array.from({ length: STREAMS_PER_CONNECTION }, open)),
    close() {
      for (const { client } of connections) client.close()
    },
  }
}

function settled(call: (done: (error: Error | null) => void) => unknown): Promise<void> {
  return new Promise((resolve, reject) => {
    call((error) => (error ? reject(error) : resolve()))
  })
}

function firstOf(stream: ClientReadableStream<unknown>): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.on('error', reject)
    stream.once('data', () => {
      stream.removeListener('error', reject)
      stream.on('error', () => undefined)
      stream.cancel()
      resolve()
    })
  })
}

async function startServer(kind: 'agent' | 'bare', path: string): Promise<ChildProcess> {
  const child = fork(fileURLToPath(import.meta.url), [kind, path])
  await once(child, 'message')
  return child
}

/** The longest turn of the event loop since the question before, in milliseconds. */
async function stallOf(agent: ChildProcess): Promise<number> {
  const answered = once(agent, 'message')
  agent.send('stall')
  const [stall] = await answered
  return Number(stall)
}

async function serveAgent(path: string): Promise<void> {
  const uid = process.getuid?.()
  const identities = fakeIdentities({
    entries: [{ path: '/web', selectors: [`unix:uid:${uid}`] }],
  })
  const token = await identities.jwtSvid({
    entry: identities.entries()[0]!,
    audience: ['orders'],
    signal: new AbortController().signal,
  })
  await openLocalEndpoints({
    identities: { ...identities, jwtSvid: async () => token },
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    massWindowMs: 0,
    sockets: [{ path }],
  })
  const longest = watchLoop()
  const { bundle } = identities.authority
  let version = 0
  process.on('message', (message) => {
    if (message === 'stall') return process.send?.(longest())
    version += 1
    const [root] = bundle.x509Authorities
    const roots = Array.from({ length: 2 + (version % 2) }, () => root!)
    return identities.setBundle({ ...bundle, x509Authorities: roots })
  })
  process.send?.('ready')
}

function watchLoop(): () => number {
  const delays = monitorEventLoopDelay({ resolution: 1 })
  delays.enable()
  return () => {
    const longest = delays.max / 1e6
    delays.reset()
    return longest
  }
}

async function serveBare(path: string): Promise<void> {
  const answer = Buffer.alloc(ANSWER_BYTES, 7)
  const open = new Set<ServerWritableStream<Buffer, Buffer>>()
  const server = new Server({ 'grpc.enable_channelz': 0 })
  server.addService(bareService, {
    echo: (_: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => done(null, answer),
    follow(call: ServerWritableStream<Buffer, Buffer>) {
      open.add(call)
      call.on('cancelled', () => open.delete(call))
      call.write(answer)
    },
  })
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure())
  const listener = createServer((socket) => injector.injectConnection(socket))
  await new Promise<void>((resolve) => listener.listen(path, resolve))
  process.on('message', () => {
    for (const call of open) call.write(answer)
  })
  process.send?.('ready')
}

function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN
}

const median = (values: readonly number[]) => quantile(values, 0.5)
const us = (value: number) => `${value.toFixed(0).padStart(6)} µs`

const [, , kind, path = ''] = process.argv
if (kind === 'agent') await serveAgent(path)
else if (kind === 'bare') await serveBare(path)
else await main()

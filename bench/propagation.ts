import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { type Client, credentials, Metadata } from '@grpc/grpc-js'
import { ask, sentryClient } from '../cli/sentry-client.js'
import { wireId } from '../cli/spire-types.js'
import { EntryClient } from '../proto/gen/spire/api/server/entry/v1/entry.js'
import { Entry } from '../proto/gen/spire/api/types/types.js'
import { SpiffeWorkloadAPIClient, type X509SVIDResponse } from '../spiffe/workload-api/index.js'
import { type TempFolder, tempFolder } from '../test/support/temp-folder.js'
import {
  monotonicMs,
  printConditions,
  quantile,
  type Sentry,
  startSentry,
  TRUST_DOMAIN,
} from './product.js'
import type { AgentOrder, LoadMessage, LoadOrder } from './propagation-load.js'

/**
 * PF-13: how long an entry takes from the call that creates it until its SVID is in the agent's hands,
 * and in those of a workload with a stream open on a Unix socket. The sentry is the built program in a
 * process of its own; the agents are real ones with a real connection each, in two processes beside it.
 * The same is measured with a handful of agents first, in the same run, as the reference.
 * `node dist/bench/propagation.js [agents] [entries]`
 */
const AGENTS = Number(process.argv[2] ?? 1000)
const ENTRIES = Number(process.argv[3] ?? 400)
const FEW = 10
const PROCESSES = 2
/** Agents whose workload has a stream open, in each process. */
const SERVING = 5
const BURST = 500
const PATIENCE_MS = 60_000

interface Mesh extends AsyncDisposable {
  readonly sentry: Sentry
  readonly agents: readonly string[]
  /** Those that a workload of this process listens to. */
  readonly serving: readonly string[]
  readonly connectMs: number
  /** When the SVID was first in the agent's hands, and in the workload's. */
  heldAt(spiffeId: string): Promise<number>
  deliveredAt(spiffeId: string): Promise<number>
}

interface Figures {
  readonly created: readonly number[]
  readonly held: readonly number[]
  readonly delivered: readonly number[]
  readonly burst: number
}

async function main(): Promise<void> {
  printConditions()
  const few = await measure(FEW)
  const many = await measure(AGENTS)
  printConditions()
  console.log(`\n${'milliseconds'.padEnd(52)}       p50       p99   longest`)
  for (const [agents, figures] of [
    [FEW, few],
    [AGENTS, many],
  ] as const) {
    print(`${agents} agents: the call that creates an entry`, figures.created)
    print(`${agents} agents: to the SVID in the agent's hands`, figures.held)
    print(`${agents} agents: to the SVID in the workload's hands`, figures.delivered)
    console.log(
      `${agents} agents: ${BURST} entries at once, to the last SVID`.padEnd(52),
      burst(figures),
    )
  }
  const p99 = (figures: Figures) => quantile(figures.delivered, 0.99)
  console.log(
    `\nPF-13  p99 with ${AGENTS} agents: ${p99(many).toFixed(0)} ms (floor 1000, goal 200); ${(p99(many) / p99(few)).toFixed(2)} of that with ${FEW}`,
  )
}

const burst = ({ burst: ms }: Figures) => ms.toFixed(0).padStart(29)

async function measure(agents: number): Promise<Figures> {
  await using folder = await tempFolder()
  await using mesh = await connectMesh(folder, agents)
  console.log(
    `${agents} agents attested and following after ${(mesh.connectMs / 1000).toFixed(1)} s`,
  )
  const create = entryCreator(mesh.sentry)
  const created: number[] = []
  const held: number[] = []
  const delivered: number[] = []
  for (let turn = 0; turn < ENTRIES; turn += 1) {
    // Every other entry is for a workload that listens, the rest for any agent.
    const listened = turn % 2 === 0
    const agent = anyOf(listened ? mesh.serving : mesh.agents, turn)
    const spiffeId = `spiffe://${TRUST_DOMAIN}/ns/shop/sa/app-${turn}`
    const at = [mesh.heldAt(spiffeId), ...(listened ? [mesh.deliveredAt(spiffeId)] : [])] as const
    const start = monotonicMs()
    await create([{ spiffeId, agent }])
    created.push(monotonicMs() - start)
    const [heldAt, deliveredAt] = await Promise.all(at)
    held.push(heldAt - start)
    if (deliveredAt !== undefined) delivered.push(deliveredAt - start)
  }
  return { created, held, delivered, burst: await measureBurst(mesh, create) }
}

async function measureBurst(mesh: Mesh, create: ReturnType<typeof entryCreator>): Promise<number> {
  const wanted = Array.from({ length: BURST }, (_, at) => ({
    spiffeId: `spiffe://${TRUST_DOMAIN}/ns/burst/sa/app-${at}`,
    agent: anyOf(mesh.agents, at),
  }))
  const start = monotonicMs()
  const all = wanted.map(({ spiffeId }) => mesh.heldAt(spiffeId))
  await create(wanted)
  return Math.max(...(await Promise.all(all))) - start
}

/** Not random, so that runs are alike, but in no order. */
function anyOf(agents: readonly string[], turn: number): string {
  return agents[(turn * 7919) % agents.length]!
}

async function connectMesh(folder: TempFolder, count: number): Promise<Mesh> {
  const sentry = await startSentry(folder)
  const arrivals = { held: arrivalBook(), delivered: arrivalBook() }
  const children: ChildProcess[] = []
  const workloads: { close(): void }[] = []
  const stop = async () => {
    for (const workload of workloads) workload.close()
    await Promise.all(children.map(endOf))
    await sentry[Symbol.asyncDispose]()
  }
  try {
    const start = monotonicMs()
    const orders = await ordersFor({ sentry, folder, count })
    const ids = await Promise.all(
      orders.map((order) => {
        const child = startLoad(order, arrivals.held.arrived)
        children.push(child.process)
        return child.connected
      }),
    )
    const connectMs = monotonicMs() - start
    const serving = await agentsServing(sentry, { orders, arrivals, workloads })
    return {
      sentry,
      serving,
      connectMs,
      agents: ids.flat(),
      heldAt: arrivals.held.when,
      deliveredAt: arrivals.delivered.when,
      [Symbol.asyncDispose]: stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

interface Wanted {
  readonly sentry: Sentry
  readonly folder: TempFolder
  readonly count: number
}

/** Each agent gets its token; the first few of each process also serve a socket and have a workload. */
async function ordersFor({ sentry, folder, count }: Wanted): Promise<readonly LoadOrder[]> {
  const bundle = await sentry.setup.bundleDocument()
  const orders: LoadOrder[] = []
  for (let part = 0; part < PROCESSES; part += 1) {
    const agents: AgentOrder[] = []
    for (let at = 0; at < count / PROCESSES; at += 1) {
      const serves = at < Math.min(SERVING, count / PROCESSES)
      const name = `${part}-${at}`
      const joinToken = await sentry.joinToken(serves ? aliasOf(name) : undefined)
      agents.push({ joinToken, ...(serves && { socket: folder.file(`${name}.s`) }) })
    }
    orders.push({ trustDomain: TRUST_DOMAIN, bundle, sentry: sentry.address, agents })
  }
  return orders
}

const aliasOf = (name: string) => `spiffe://${TRUST_DOMAIN}/bench/${name}`
const nameOf = (socket: string) => socket.slice(socket.lastIndexOf('/') + 1, -2)

/** Gives their aliases, when a workload has its first SVID from each and a stream open. */
async function agentsServing(
  sentry: Sentry,
  options: {
    readonly orders: readonly LoadOrder[]
    readonly arrivals: { readonly delivered: ArrivalBook }
    readonly workloads: { close(): void }[]
  },
): Promise<readonly string[]> {
  const { orders, arrivals, workloads } = options
  const create = entryCreator(sentry)
  const sockets = orders.flatMap(({ agents }) => agents.flatMap(({ socket }) => socket ?? []))
  for (const socket of sockets) {
    const spiffeId = `spiffe://${TRUST_DOMAIN}/ns/first/sa/${nameOf(socket)}`
    const delivered = arrivals.delivered.when(spiffeId)
    await create([{ spiffeId, agent: aliasOf(nameOf(socket)) }])
    workloads.push(workloadOn(socket, arrivals.delivered.arrived))
    await delivered
  }
  return sockets.map((socket) => aliasOf(nameOf(socket)))
}

function startLoad(order: LoadOrder, held: (spiffeId: string, at: number) => void) {
  const child = fork(fileURLToPath(new URL('./propagation-load.js', import.meta.url)))
  const connected = new Promise<readonly string[]>((resolve, reject) => {
    child.once('exit', () => reject(new Error('agents ended')))
    child.on('message', (message: LoadMessage) => {
      if (message.kind === 'held') held(message.spiffeId, message.at)
      if (message.kind === 'connected') resolve(message.ids)
    })
  })
  child.send(order)
  return { process: child, connected }
}

/** A workload that holds a stream open and asks again when it is refused. */
function workloadOn(socket: string, delivered: (spiffeId: string, at: number) => void) {
  const plain: Client = new SpiffeWorkloadAPIClient(
    `unix:${socket}`,
    credentials.createInsecure(),
    { 'grpc.use_local_subchannel_pool': 1 },
  )
  const client = plain as SpiffeWorkloadAPIClient
  const metadata = new Metadata()
  metadata.set('workload.spiffe.io', 'true')
  let closed = false
  const open = () => {
    const call = client.fetchX509Svid({}, metadata)
    call.on('data', ({ svids }: X509SVIDResponse) => {
      const at = monotonicMs()
      for (const { spiffeId } of svids) delivered(spiffeId, at)
    })
    call.on('error', () => {
      if (!closed) setTimeout(open, 20)
    })
  }
  open()
  return {
    close() {
      closed = true
      client.close()
    },
  }
}

type Create = (
  entries: readonly { readonly spiffeId: string; readonly agent: string }[],
) => Promise<void>

function entryCreator(sentry: Sentry): Create {
  const client = sentryClient(EntryClient, sentry.socket)
  const selectors = [{ type: 'unix', value: `uid:${process.getuid?.()}` }]
  return async (wanted) => {
    const entries = wanted.map(({ spiffeId, agent }) =>
      Entry.fromPartial({ spiffeId: wireId(spiffeId), parentId: wireId(agent), selectors }),
    )
    const context = { now: () => new Date(), signal: new AbortController().signal }
    const request = { entries, outputMask: undefined }
    const { results } = await ask(client, 'batchCreateEntry', { request, context })
    const refused = results.find(({ status }) => status?.code !== 0)
    if (refused) throw new Error(`no entry: ${refused.status?.message}`)
  }
}

type ArrivalBook = ReturnType<typeof arrivalBook>

/** Who waits for which SPIFFE ID, and when it came. */
function arrivalBook() {
  const waiting = new Map<string, (at: number) => void>()
  return {
    when(spiffeId: string): Promise<number> {
      return new Promise((resolve, reject) => {
        const late = setTimeout(() => reject(new Error(`no SVID for ${spiffeId}`)), PATIENCE_MS)
        waiting.set(spiffeId, (at) => {
          clearTimeout(late)
          waiting.delete(spiffeId)
          resolve(at)
        })
      })
    },
    arrived: (spiffeId: string, at: number) => waiting.get(spiffeId)?.(at),
  }
}

async function endOf(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.disconnect()
  await gone
}

function print(name: string, values: readonly number[]): void {
  const cells = [0.5, 0.99, 1].map((part) => quantile(values, part).toFixed(1).padStart(10))
  console.log(`${name.padEnd(52)}${cells.join('')}`)
}

await main()

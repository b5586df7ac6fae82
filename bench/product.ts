import { type ChildProcess, spawn } from 'node:child_process'
import { once, setMaxListeners } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { cpus, loadavg } from 'node:os'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { type SentrySetup, sentrySetup } from '../cli/dev/sentry-setup.js'
import { READY_FD_VARIABLE, STOP_WITH_PARENT_VARIABLE } from '../cli/process.js'
import { ask, sentryClient } from '../cli/sentry-client.js'
import { wireId } from '../cli/spire-types.js'
import { AgentClient } from '../proto/gen/spire/api/server/agent/v1/agent.js'
import type { TempFolder } from '../test/support/temp-folder.js'

/** The built product, in processes of its own, for the benchmarks of the whole. */

export const TRUST_DOMAIN = 'bench.test'
export const LOOPBACK = '127.0.0.1:0'
const MAIN = fileURLToPath(new URL('../cli/main.js', import.meta.url))
const READY_FD = 3
const TOKEN_TTL_SECONDS = 3600
const LAST_LINES = 20
const stop = new AbortController()
// Every call listens to it.
setMaxListeners(0, stop.signal)
const context = { now: () => new Date(), signal: stop.signal }

export interface Program extends AsyncDisposable {
  readonly pid: number
  /** Of `process.hrtime`, in milliseconds, when it was started. */
  readonly startedAt: number
  /** Milliseconds until it said that it was ready. */
  readonly readyMs: number
  readonly addresses: Readonly<Record<string, string>>
}

/** A component that has been started and need not be ready yet. */
export interface Starting {
  readonly pid: number
  readonly startedAt: number
  readonly ready: Promise<Program>
  /** Resolves when it is gone. */
  stop(): Promise<void>
}

export const monotonicMs = () => Number(process.hrtime.bigint()) / 1e6

/** Starts a component of the product. `BENCH_NODE_OPTIONS` goes to node, `--cpu-prof` for one. */
export function start(args: readonly string[]): Starting {
  const startedAt = monotonicMs()
  const nodeArgs = (process.env['BENCH_NODE_OPTIONS'] ?? '').split(' ').filter(Boolean)
  const child = spawn(process.execPath, [...nodeArgs, MAIN, ...args], {
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    env: {
      PATH: process.env['PATH'],
      [READY_FD_VARIABLE]: String(READY_FD),
      [STOP_WITH_PARENT_VARIABLE]: '1',
    },
  })
  const gone = once(child, 'exit')
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
    await gone
  }
  const ready = readyOf(child, { startedAt, gone, stop })
  ready.catch(() => undefined)
  return { pid: child.pid!, startedAt, ready, stop }
}

export async function run(args: readonly string[]): Promise<Program> {
  const starting = start(args)
  try {
    return await starting.ready
  } catch (error) {
    await starting.stop()
    throw error
  }
}

interface Life {
  readonly startedAt: number
  readonly gone: Promise<unknown>
  readonly stop: () => Promise<void>
}

async function readyOf(child: ChildProcess, { startedAt, gone, stop }: Life): Promise<Program> {
  const said = lastLines(child)
  const announced = once(createInterface({ input: child.stdio[READY_FD] as Readable }), 'line')
  const failed = gone.then(() => Promise.reject(new Error(`it ended:\n${said.join('\n')}`)))
  failed.catch(() => undefined)
  const [line] = (await Promise.race([announced, failed])) as [string]
  return {
    pid: child.pid!,
    startedAt,
    readyMs: monotonicMs() - startedAt,
    addresses: JSON.parse(line) as Record<string, string>,
    [Symbol.asyncDispose]: stop,
  }
}

function lastLines(child: ChildProcess): readonly string[] {
  const lines: string[] = []
  child.stdout?.resume()
  createInterface({ input: child.stderr! }).on('line', (line) => {
    lines.push(line)
    if (lines.length > LAST_LINES) lines.shift()
  })
  return lines
}

export interface Sentry extends AsyncDisposable {
  readonly program: Program
  /** Where agents connect. */
  readonly address: string
  readonly socket: string
  readonly setup: SentrySetup
  /** A join token for an agent that entries may also call by this ID. */
  joinToken(alias?: string): Promise<string>
}

/** A sentry of its own in a folder; one that was there before is found again. */
export async function startSentry(folder: TempFolder, args: readonly string[] = []) {
  return sentryOn(await run([...sentryArgs(folder), ...args]), folder)
}

export function sentryArgs(folder: TempFolder): readonly string[] {
  return [
    'sentry',
    'run',
    ...flags({
      'trust-domain': TRUST_DOMAIN,
      'data-dir': folder.file('sentry'),
      socket: folder.file('sentry.s'),
      listen: LOOPBACK,
      'admin-listen': LOOPBACK,
      'rate-limits': 'false',
      'log-level': 'warn',
    }),
  ]
}

/** `{ listen: 'a:1' }` as `--listen a:1`. */
export const flags = (named: Readonly<Record<string, string>>) =>
  Object.entries(named).flatMap(([name, value]) => [`--${name}`, value])

function sentryOn(program: Program, folder: TempFolder): Sentry {
  const socket = folder.file('sentry.s')
  const agents = sentryClient(AgentClient, socket)
  const setup = sentrySetup(socket, context as Parameters<typeof sentrySetup>[1])
  return {
    program,
    socket,
    setup,
    address: program.addresses['grpc'] ?? '',
    async joinToken(alias) {
      const agentId = alias === undefined ? undefined : wireId(alias)
      const request = { ttl: TOKEN_TTL_SECONDS, token: '', agentId }
      return (await ask(agents, 'createJoinToken', { request, context })).value
    },
    [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
  }
}

export interface AgentPlace {
  readonly folder: TempFolder
  /** Tells agents in one folder apart. */
  readonly name: string
  readonly sentry: Pick<Sentry, 'address'>
  /** Names of further sockets, whose callers carry `socket:<name>`. */
  readonly sockets?: readonly string[]
}

export const agentSocket = ({ folder, name }: AgentPlace) => folder.file(`${name}.s`)
export const furtherSocket = (folder: TempFolder, name: string) => folder.file(`w-${name}.s`)

/** The command line of an agent that starts from its sealed state. */
export function agentArgs(place: AgentPlace): readonly string[] {
  const { folder, name, sentry, sockets = [] } = place
  const named = flags({
    'trust-domain': TRUST_DOMAIN,
    'data-dir': folder.file(name),
    sentry: sentry.address,
    socket: agentSocket(place),
    'admin-listen': LOOPBACK,
    'log-level': 'warn',
  })
  const further = sockets.flatMap((of) =>
    flags({ sockets: `name=${of},path=${furtherSocket(folder, of)}` }),
  )
  return ['agent', 'run', ...named, ...further]
}

export interface SidecarPlace {
  /** Of the Workload API. */
  readonly socket: string
  readonly dataFolder: string
}

/** The command line of a sidecar in front of an app that never gets a request. */
export function sidecarArgs({ socket, dataFolder }: SidecarPlace): readonly string[] {
  const route = {
    host: 'orders',
    address: '127.0.0.1:9',
    expect: [`spiffe://${TRUST_DOMAIN}/ns/shop/sa/orders`],
  }
  return [
    'sidecar',
    'run',
    ...flags({
      'workload-api': `unix://${socket}`,
      'data-dir': dataFolder,
      'admin-listen': LOOPBACK,
      'log-level': 'warn',
      inbound: JSON.stringify({ listen: LOOPBACK, app: '127.0.0.1:9' }),
      outbound: JSON.stringify({ listen: LOOPBACK, routes: [route] }),
    }),
  ]
}

/** What an agent needs beside it at its first start. */
export async function evidence(
  sentry: Sentry,
  { folder, alias }: { readonly folder: TempFolder; readonly alias: string },
): Promise<readonly string[]> {
  const paths = { bundle: folder.file('bundle.json'), token: folder.file('join-token') }
  await writeFile(paths.bundle, await sentry.setup.bundleDocument())
  await writeFile(paths.token, await sentry.joinToken(alias), { mode: 0o600 })
  return ['--trust-bundle', paths.bundle, '--join-token-file', paths.token]
}

export function printConditions(): void {
  const load = loadavg().map((value) => value.toFixed(1))
  console.log(
    `node ${process.versions.node}, OpenSSL ${process.versions.openssl}, ${cpus().length} cores (${cpus()[0]?.model.trim()}), load ${load.join(' ')}`,
  )
}

export function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN
}

export const median = (values: readonly number[]) => quantile(values, 0.5)

import { writeFile } from 'node:fs/promises'
import { countersign, type RunningProgram, startProgram } from './countersign.js'
import type { TempFolder } from './temp-folder.js'

const LOOPBACK = '127.0.0.1:0'

/** The built sentry, as a process, with a data folder of its own. */
export interface RunningSentry extends AsyncDisposable {
  readonly program: RunningProgram
  readonly trustDomain: string
  readonly socket: string
  /** Where agents connect. */
  readonly address: string
  readonly admin: string
  /** Asks the sentry with the command line; gives the JSON of the answer. Throws when the command fails. */
  ask(...args: readonly string[]): Promise<Record<string, unknown>>
}

export interface SentryOptions {
  readonly folder: TempFolder
  readonly trustDomain?: string
  /** Where an earlier life listened, so that agents find it again. */
  readonly address?: string
  readonly args?: readonly string[]
}

export async function startSentry(options: SentryOptions): Promise<RunningSentry> {
  const { folder, trustDomain = 'example.test', address = LOOPBACK, args = [] } = options
  const socket = folder.file('sentry.sock')
  const program = await startProgram([
    'sentry',
    'run',
    '--trust-domain',
    trustDomain,
    '--data-dir',
    folder.file('sentry'),
    '--socket',
    socket,
    '--listen',
    address,
    '--admin-listen',
    LOOPBACK,
    ...args,
  ])
  return {
    program,
    trustDomain,
    socket,
    address: program.addresses.grpc ?? '',
    admin: program.addresses.admin ?? '',
    ask: (...command) => askJson([...command, '--sentry-socket', socket, '-o', 'json']),
    [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
  }
}

/** Runs a command that answers with JSON. Throws with what it printed when it fails. */
export async function askJson(args: readonly string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await countersign(args)
  if (code !== 0) throw new Error(`countersign ${args.join(' ')} ended with ${code}: ${stderr}`)
  return JSON.parse(stdout) as Record<string, unknown>
}

/** The built agent, as a process, attested to a sentry. */
export interface RunningAgent extends AsyncDisposable {
  readonly program: RunningProgram
  readonly id: string
  /** Address of the Workload API for everybody, as `unix://…`. */
  readonly endpoint: string
  readonly socket: string
  readonly adminSocket: string
  readonly admin: string
  /** Address of the socket whose callers carry `socket:<name>`. */
  endpointOf(name: string): string
}

export interface AgentOptions {
  readonly folder: TempFolder
  readonly sentry: Pick<RunningSentry, 'address' | 'socket' | 'trustDomain' | 'ask'>
  /** Names of further sockets. */
  readonly sockets?: readonly string[]
  /** False for a restart, which must do without a token. */
  readonly attest?: boolean
  readonly args?: readonly string[]
}

export async function startAgent(options: AgentOptions): Promise<RunningAgent> {
  const { folder, sentry, sockets = [], attest = true, args = [] } = options
  const path = (name: string) => folder.file(`${name}.s`)
  const proof = attest ? await evidence(folder, sentry) : []
  const program = await startProgram([
    'agent',
    'run',
    '--trust-domain',
    sentry.trustDomain,
    '--data-dir',
    folder.file('agent'),
    '--sentry',
    sentry.address,
    '--socket',
    path('agent'),
    '--admin-socket',
    path('admin'),
    '--admin-listen',
    LOOPBACK,
    ...proof,
    ...sockets.flatMap((name) => ['--sockets', `name=${name},path=${path(name)}`]),
    ...args,
  ])
  return {
    program,
    id: program.addresses.id ?? '',
    endpoint: `unix://${path('agent')}`,
    socket: path('agent'),
    adminSocket: path('admin'),
    admin: program.addresses.admin ?? '',
    endpointOf: (name) => `unix://${path(name)}`,
    [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
  }
}

async function evidence(folder: TempFolder, sentry: AgentOptions['sentry']): Promise<string[]> {
  const { stdout: bundle } = await countersign([
    'bundle',
    'show',
    '--format',
    'spiffe',
    '--sentry-socket',
    sentry.socket,
  ])
  const { token } = await sentry.ask('token', 'generate')
  await writeFile(folder.file('bundle.json'), bundle)
  await writeFile(folder.file('join-token'), String(token), { mode: 0o600 })
  return [
    '--trust-bundle',
    folder.file('bundle.json'),
    '--join-token-file',
    folder.file('join-token'),
  ]
}

/** Creates an entry below an agent and gives its id. */
export async function createEntry(
  sentry: Pick<RunningSentry, 'ask'>,
  options: {
    id: string
    parent: string
    selectors: readonly string[]
    ttl?: string
    args?: readonly string[]
  },
): Promise<string> {
  const selectors = options.selectors.flatMap((selector) => ['--selector', selector])
  const ttl = options.ttl === undefined ? [] : ['--x509-ttl', options.ttl]
  const entry = await sentry.ask(
    'entry',
    'create',
    '--spiffe-id',
    options.id,
    '--parent-id',
    options.parent,
    ...selectors,
    ...ttl,
    ...(options.args ?? []),
  )
  return String(entry.id)
}

export interface SidecarOptions {
  readonly endpoint: string
  readonly inbound?: { readonly app: string; readonly listen?: string; readonly protocol?: string }
  readonly outbound?: Readonly<Record<string, unknown>>
  readonly args?: readonly string[]
}

/** The built sidecar, as a process. */
export function startSidecar({
  endpoint,
  inbound,
  outbound,
  args = [],
}: SidecarOptions): Promise<RunningProgram> {
  return startProgram([
    'sidecar',
    'run',
    '--workload-api',
    endpoint,
    '--admin-listen',
    LOOPBACK,
    ...(inbound ? ['--inbound', JSON.stringify({ listen: LOOPBACK, ...inbound })] : []),
    ...(outbound ? ['--outbound', JSON.stringify({ listen: LOOPBACK, ...outbound })] : []),
    ...args,
  ])
}

import type { Clock } from '../../platform/clock.js'
import type { Log } from '../../platform/log.js'
import type { Random } from '../../platform/random.js'
import { type Attestation, attestation as attestedBy } from '../attestation/caller.js'
import { unixAttestor } from '../attestation/unix.js'
import { AgentError } from '../errors.js'
import type { Identities, Selector } from '../identities/identities.js'
import { connectionTable } from '../workload-api/connections.js'
import { entitlements as entitlementsOf } from '../workload-api/entitlements.js'
import { type Journal, journal as journalTo } from '../workload-api/journal.js'
import { defaultLimits, type Limits } from '../workload-api/limits.js'
import { type LocalServer, openLocalServer } from '../workload-api/local-server.js'
import { messages as messagesOf } from '../workload-api/messages.js'
import { type PushOptions, pushes as pushesTo } from '../workload-api/pushes.js'
import { workloadApi } from '../workload-api/service.js'
import type { ValidationContext } from '../workload-api/validate-jwt-svid.js'
import { diagnosisService } from './diagnosis.js'
import { sidecarService } from './sidecar.js'

/** A socket of the Workload API. */
export interface WorkloadSocket {
  readonly path: string
  /** Who may connect: everybody (0777) unless given, since the kernel tells who does. */
  readonly mode?: number
  /** What the socket itself vouches for, such as `socket:orders`: whoever may open it has them. */
  readonly selectors?: readonly Selector[]
}

export interface LocalEndpointsOptions extends PushOptions {
  readonly identities: Identities
  /** Only Unix sockets: nothing would tell for certain who calls over TCP. */
  readonly sockets: readonly [WorkloadSocket, ...WorkloadSocket[]]
  /** For the user of the agent and for root: tells about any process. */
  readonly privateSocket?: string
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly limits?: Partial<Limits>
  /** By the kernel, with user, groups and binary, unless given. */
  readonly attestation?: Attestation
  /** How long a caller waits for an SVID that is not in hand. */
  readonly patienceMs?: number
  /** Claims of tokens of other trust domains that ValidateJWTSVID hands on besides the registered ones. */
  readonly foreignClaims?: readonly string[]
}

export interface LocalEndpoints extends AsyncDisposable {
  /** Of the Workload API, as given. */
  readonly paths: readonly string[]
  /** How many streams are open. */
  streams(): number
  /** How many connections are open. */
  connections(): number
  /** Calls `listener` with the reason code of every call, stream and connection that is refused. */
  onRefusal(listener: (code: string) => void): void
  /** Tells every stream that the agent stops, and removes the sockets. */
  close(): Promise<void>
}

const DEFAULT_PATIENCE_MS = 5000
const OPEN_TO_ALL = 0o777
const FOLDER_MODE = 0o755
const PRIVATE = { mode: 0o600, folderMode: 0o700 }

/**
 * Opens what the agent offers to the processes of this machine: the Workload API with policy and
 * diagnosis beside it on each socket, and diagnosis of any process on the private one. Throws
 * `CS_SOCKET_SELECTOR_INVALID`, `CS_SOCKET_PATH_INVALID`, `CS_SOCKET_FOLDER_UNSAFE`, `CS_SOCKET_TAKEN`,
 * `CS_PLATFORM_UNSUPPORTED`, `CS_PROC_UNUSABLE`, `CS_FOLDER_UNUSABLE` and `CS_LISTEN_FAILED`.
 */
export async function openLocalEndpoints(options: LocalEndpointsOptions): Promise<LocalEndpoints> {
  const { sockets, privateSocket, log } = options
  sockets.forEach(assertOwnSelectors)
  const attestation = options.attestation ?? kernelAttestation(options)
  const refusalListeners = new Set<(code: string) => void>()
  const onRefusal = (code: string) => {
    for (const listener of refusalListeners) listener(code)
  }
  const context = contextOf({
    ...options,
    attestation,
    journal: journalTo({ ...options, onRefusal }),
  })
  const servers: LocalServer[] = []
  const close = once(async () => {
    await context.pushes.close(new AgentError('CS_AGENT_STOPPING', 'agent is stopping'))
    await Promise.all(servers.map((server) => server.close()))
    context.messages.close()
    context.entitlements.close()
  })
  try {
    servers.push(await openPublic(options, context))
    if (privateSocket !== undefined) {
      servers.push(
        await openPrivate(privateSocket, { ...options, attestation, journal: context.journal }),
      )
    }
  } catch (error) {
    await close()
    throw error
  }
  const paths = sockets.map(({ path }) => path)
  log.info({ sockets: paths, privateSocket }, 'Workload API listens')
  return {
    paths,
    streams: () => context.pushes.count(),
    connections: () => context.connections.count(),
    onRefusal: (listener) => void refusalListeners.add(listener),
    close,
    [Symbol.asyncDispose]: close,
  }
}

function kernelAttestation({ clock, log }: LocalEndpointsOptions): Attestation {
  return attestedBy({ attestors: [unixAttestor({ clock })], log })
}

/** A socket may not say what only an attestor can know. */
function assertOwnSelectors({ path, selectors = [] }: WorkloadSocket): void {
  for (const { type, value } of selectors) {
    if (type === 'socket' && value !== '') continue
    const message = `socket ${path} may vouch for selectors of type socket only, not ${type}:${value}`
    throw new AgentError('CS_SOCKET_SELECTOR_INVALID', message)
  }
}

function limitsOf({ limits }: LocalEndpointsOptions): Limits {
  return { ...defaultLimits, ...limits }
}

type Equipped = LocalEndpointsOptions & {
  readonly attestation: Attestation
  readonly journal: Journal
}

function contextOf(options: Equipped): ValidationContext {
  const { identities, clock, journal } = options
  return {
    identities,
    clock,
    journal,
    entitlements: entitlementsOf(identities),
    messages: messagesOf(identities),
    pushes: pushesTo(options),
    connections: connectionTable({ ...options, limits: limitsOf(options) }),
    patienceMs: options.patienceMs ?? DEFAULT_PATIENCE_MS,
    foreignClaims: options.foreignClaims ?? [],
  }
}

function openPublic(
  options: LocalEndpointsOptions,
  context: ValidationContext,
): Promise<LocalServer> {
  const { sockets, clock, log } = options
  const paths = sockets.map(({ path }) => path)
  return openLocalServer({
    sockets: sockets.map(({ path, mode = OPEN_TO_ALL, selectors = [] }) => ({
      path,
      mode,
      folderMode: FOLDER_MODE,
      selectors,
    })),
    services: [
      workloadApi(context),
      sidecarService(context),
      diagnosisService({ ...context, sockets: paths }),
    ],
    connections: context.connections,
    limits: limitsOf(options),
    clock,
    journal: context.journal,
    log,
  })
}

function openPrivate(path: string, options: Equipped): Promise<LocalServer> {
  const { identities, sockets, attestation, clock, journal, log } = options
  const limits = limitsOf(options)
  const connections = connectionTable({ ...options, limits })
  const admits = (uid: number) => uid === 0 || uid === process.geteuid?.()
  const paths = sockets.map((socket) => socket.path)
  return openLocalServer({
    sockets: [{ path, ...PRIVATE, selectors: [], admits }],
    services: [
      diagnosisService({
        identities,
        connections,
        journal,
        sockets: paths,
        anyProcess: attestation,
      }),
    ],
    connections,
    limits,
    clock,
    journal,
    log,
  })
}

function once(act: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined
  return () => (done ??= act())
}

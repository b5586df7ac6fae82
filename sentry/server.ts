import { setMaxListeners } from 'node:events'
import type { Readiness } from '../platform/admin-http.js'
import type { HostPort } from '../platform/listen.js'
import type { Metrics } from '../platform/metrics.js'
import type { SpiffeId, TrustBundle, TrustDomain } from '../spiffe/index.js'
import { listenOnAdminSocket } from './api/admin-socket.js'
import type { SvidLifetimes } from './api/context.js'
import {
  type ConnectionLimits,
  listenOnNetwork,
  type NetworkListener,
} from './api/network-listener.js'
import { injectorOf } from './api/servers.js'
import { defaultRateLimits, type RateLimits } from './api/service-limits.js'
import { type LifetimeSettings, settleLifetimes } from './authorities/lifetimes.js'
import { bundleTable, trustBundleOf } from './bundles/bundle-record.js'
import { followBundles, type HeldBundles } from './bundles/held-bundles.js'
import { type Closers, closers } from './closers.js'
import { SentryError } from './errors.js'
import { keepHouse } from './housekeeping.js'
import { buildParts, type Parts } from './parts.js'
import type { PolicyCompiler } from './policy/compiler.js'
import { openState, type SentryState, type StateOptions } from './state.js'
import { readinessOf, type SentryStatus, statusOf } from './status.js'

/** In seconds; what is left out has a default. */
export interface SentryLifetimes extends Partial<SvidLifetimes> {
  readonly root?: number
  readonly issuer?: number
  readonly jwtKey?: number
}

export interface SentryOptions extends Omit<StateOptions, 'lifetimes'> {
  readonly listen: HostPort
  readonly adminSocket: {
    readonly path: string
    /** Lets the group of the process administer too. */
    readonly group?: boolean
  }
  /** Bundles of this process; the sentry keeps those that it stores in there. */
  readonly bundles: HeldBundles
  readonly compiler: PolicyCompiler
  readonly metrics: Metrics
  readonly lifetimes?: SentryLifetimes
  /** DNS names and IP addresses in the sentry's certificate; those of this machine unless given. */
  readonly names?: readonly string[]
  /** IDs that may administer from the network, also of other trust domains. */
  readonly adminIds?: readonly SpiffeId[]
  readonly jwtIssuer?: string
  /** Audiences whose tokens are signed with RS256. */
  readonly rs256Audiences?: readonly string[]
  readonly rateLimits?: RateLimits | 'off'
  readonly connectionLimits?: Partial<ConnectionLimits>
  /** How long running calls get when the sentry stops. */
  readonly graceMs?: number
}

export interface RunningSentry extends AsyncDisposable {
  readonly trustDomain: TrustDomain
  readonly address: HostPort
  readonly adminSocket: string
  /** The bundle of the own trust domain, as agents get it. */
  bundle(): TrustBundle
  ready(): Readiness
  status(): SentryStatus
  /** Twice is the same as once. */
  close(): Promise<void>
}

const defaultLifetimes: SvidLifetimes = { x509Svid: 3600, jwtSvid: 300, agentSvid: 3600 }
const defaultLimits: ConnectionLimits = {
  maxConnections: 20_000,
  maxHandshakesPerAddress: 1000,
  maxAnonymous: 500,
  maxAnonymousPerAddress: 64,
  anonymousLifeMs: 120_000,
  handshakeTimeoutMs: 10_000,
}
const thisMachine = ['localhost', '127.0.0.1', '::1']
const noLimits: RateLimits = {
  attest: undefined,
  sign: undefined,
  jwt: undefined,
  status: undefined,
  read: undefined,
}
const ADMIN_CONNECTIONS = 1000
const GRACE_MS = 5000

/**
 * Starts the sentry; it serves when this resolves. Throws what opening its data folder throws,
 * `CS_TTL_TOO_LONG`, `CS_AUTHORITY_NOT_VALID`, `CS_PORT_TAKEN`, `CS_LISTEN_FAILED`, `CS_SOCKET_IN_USE`.
 */
export async function startSentry(options: SentryOptions): Promise<RunningSentry> {
  const closing = closers()
  try {
    return await start(options, closing)
  } catch (error) {
    await closing.close().catch(() => undefined)
    throw error
  }
}

async function start(options: SentryOptions, closing: Closers): Promise<RunningSentry> {
  const { trustDomain, clock, log } = options
  const svidLifetimes = { ...defaultLifetimes, ...options.lifetimes }
  const lifetimes = authorityLifetimes(svidLifetimes, options.lifetimes ?? {})
  const state = await openState({ ...options, lifetimes }, closing)
  const recordedAt = Math.max(state.datastore.changedAt, state.audit.lastRecordAt)
  const stopping = new AbortController()
  // Every stream listens to it.
  setMaxListeners(0, stopping.signal)

  const live: Live = { network: undefined }
  const parts = assemble(options, { state, svidLifetimes, live, stopping: stopping.signal })
  await parts.policies.catchUp()
  closing.defer(() => parts.policies.settled())
  const { admin, network } = await listen(options, { parts, closing })
  live.network = network
  const identities = [parts.serverIdentity, parts.policySigner]
  const house = keepHouse({ ...parts, ...state, trustDomain, clock, log, identities })
  closing.defer(() => house.stop())
  closing.defer(() => stop(options, { state, parts, listening: { admin, network }, stopping }))

  state.audit.record({ type: 'sentry.started.v1', requester: 'local' })
  const ready = () =>
    readinessOf({ state, house, stopping: stopping.signal, recordedAt, now: clock.now().getTime() })
  for (const reason of ready().reasons) log.warn({ reason }, 'sentry started with a problem')
  const close = () => closing.close()
  return {
    trustDomain,
    address: network.address,
    adminSocket: admin.path,
    bundle: () => ownBundle(state, trustDomain),
    ready,
    status: () => statusOf({ state, parts, trustDomain, connections: network.connections() }),
    close,
    [Symbol.asyncDispose]: close,
  }
}

/** What the parts act on comes to be after them. */
interface Live {
  network: NetworkListener | undefined
}

function assemble(
  options: SentryOptions,
  made: {
    readonly state: SentryState
    readonly svidLifetimes: SvidLifetimes
    readonly live: Live
    readonly stopping: AbortSignal
  },
): Parts {
  const { state, live } = made
  followBundles({
    datastore: state.datastore,
    held: options.bundles,
    onLoss: (lost) => void live.network?.judgeAgain(lost),
  })
  const { rateLimits = defaultRateLimits, names = thisMachine } = options
  return buildParts({
    ...options,
    ...made,
    names,
    adminIds: new Set(options.adminIds),
    rateLimits: rateLimits === 'off' ? noLimits : rateLimits,
    onServerIdentity: (identity) => live.network?.setIdentity(identity),
  })
}

/** Leaves out nothing that a leaf may need: throws later, with the number, when an authority cannot hold it. */
function authorityLifetimes(
  { x509Svid, jwtSvid, agentSvid }: SvidLifetimes,
  { root, issuer, jwtKey }: SentryLifetimes,
): LifetimeSettings {
  const asked = {
    ...(root !== undefined && { rootTtl: root }),
    ...(issuer !== undefined && { issuerTtl: issuer }),
    ...(jwtKey !== undefined && { jwtTtl: jwtKey }),
  }
  const { longestX509Svid, longestJwtSvid } = settleLifetimes(asked)
  return {
    ...asked,
    longestX509Svid: Math.max(longestX509Svid, x509Svid, agentSvid),
    longestJwtSvid: Math.max(longestJwtSvid, jwtSvid),
  }
}

type Listening = Awaited<ReturnType<typeof listen>>

async function listen(
  options: SentryOptions,
  { parts, closing }: { readonly parts: Parts; readonly closing: Closers },
) {
  const { servers, callers } = parts
  const admin = await listenOnAdminSocket({
    ...options.adminSocket,
    callers,
    injector: injectorOf(servers.admin),
    maxConnections: ADMIN_CONNECTIONS,
  })
  closing.defer(() => {
    admin.stop()
    admin.destroyAll()
  })
  const network = await listenOnNetwork({
    ...options,
    callers,
    identity: parts.serverIdentity.current(),
    verifier: parts.verifier,
    adminIds: new Set(options.adminIds),
    injector: injectorOf(servers.network),
    anonymousInjector: injectorOf(servers.anonymous),
    limits: { ...defaultLimits, ...options.connectionLimits },
  })
  closing.defer(() => {
    network.stop()
    network.destroyAll()
  })
  return { admin, network }
}

/** No new connections, no endless streams, time for what runs, and then an end. */
async function stop(
  { clock, graceMs = GRACE_MS }: SentryOptions,
  running: {
    readonly state: SentryState
    readonly parts: Parts
    readonly listening: Listening
    readonly stopping: AbortController
  },
): Promise<void> {
  const { state, parts, listening, stopping } = running
  listening.network.stop()
  listening.admin.stop()
  const reason = new SentryError('CS_SHUTTING_DOWN', 'the sentry is stopping')
  stopping.abort(reason)
  parts.hub.close(reason)
  parts.servers.drain()
  const drained = Promise.all([listening.network.drained(), listening.admin.drained()])
  const late = new AbortController()
  await Promise.race([drained, clock.sleep(graceMs, late.signal).catch(() => undefined)])
  late.abort()
  parts.servers.destroy()
  state.audit.record({ type: 'sentry.stopped.v1', requester: 'local' })
}

function ownBundle({ datastore }: SentryState, trustDomain: TrustDomain): TrustBundle {
  const record = datastore.view(bundleTable).get(trustDomain)
  if (!record) throw new SentryError('CS_INTERNAL', 'there is no bundle of the own trust domain')
  return trustBundleOf(record)
}

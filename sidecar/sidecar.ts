import type { Writable } from 'node:stream'
import type { Readiness } from '../platform/admin-http.js'
import type { Clock } from '../platform/clock.js'
import { formatHostPort } from '../platform/listen.js'
import type { Log } from '../platform/log.js'
import type { Metrics } from '../platform/metrics.js'
import type { Random } from '../platform/random.js'
import { SpiffeError, type SpiffeId, type X509Svid } from '../spiffe/index.js'
import { type PickSvid, parseEndpointAddress, X509Source } from '../spiffe/workload-api/index.js'
import type { AccessLogMode } from './access-log.js'
import { SidecarError } from './errors.js'
import { currentSvid, type IdentitySource } from './identity.js'
import { type PolicyInForce, policyInForce, type Standing } from './policy-in-force.js'
import { type FollowedPolicy, followPolicy } from './policy-source.js'
import { type Proxy, startProxy } from './proxy.js'
import { noSnapshotFile, snapshotFile } from './snapshot-file.js'
import type { InboundTunnel, OutboundTunnel } from './tunnels.js'

export interface SidecarOptions {
  /** Address of the Workload API, `unix:///…`; policy comes from the same socket. */
  readonly workloadApi: string
  readonly inbound: readonly InboundTunnel[]
  readonly outbound: readonly OutboundTunnel[]
  /** Where the last good policy is kept; without it a restart waits for the agent. */
  readonly stateFolder?: string
  /** How long to wait for the first SVID and policy. */
  readonly readyTimeoutMs: number
  /** Gives up starting. */
  readonly signal: AbortSignal
  readonly accessLog: { readonly destination: Writable; readonly mode: AccessLogMode }
  readonly metrics: Metrics
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

export interface RunningSidecar {
  readonly proxy: Proxy
  readiness(): Readiness
  status(): SidecarStatus
  /** Not ready from now on, takes nothing new, lets what is under way end. Resolves with whether all of it did in time. */
  close(drainMs: number): Promise<boolean>
}

export interface SidecarStatus {
  /** Null while there is no SVID that could be presented. */
  readonly identity: {
    readonly id: string
    readonly serial: string
    readonly expires_at: string
  } | null
  readonly policy: { readonly id: string; readonly generation: number } | null
  /** What came of the last snapshot that the agent sent; null until it has said anything. */
  readonly policy_standing: Standing | null
  /** Whether the agent is heard, from which changes of the policy come. */
  readonly policy_connected: boolean
  readonly tunnels: readonly {
    readonly name: string
    readonly direction: 'inbound' | 'outbound'
    readonly address: string
    readonly open: number
  }[]
  /** Open connections by the trust domain of the other side. */
  readonly peers: Readonly<Record<string, number>>
}

/** A saved policy may be old: the agent gets so long to say what holds now before callers are let in. */
const FRESH_POLICY_MS = 1000

/**
 * Starts a sidecar: waits for the own SVID and policy, then opens all listeners. Who it is stays the
 * same until it ends. Throws `CS_SIDECAR_NOT_READY`, `CS_TUNNEL_INVALID`, `CS_SOCKET_INVALID`,
 * `CS_FOLDER_UNUSABLE`, `CS_PORT_TAKEN`, `CS_LISTEN_FAILED`, or the reason of `signal`.
 */
export async function startSidecar(options: SidecarOptions): Promise<RunningSidecar> {
  assertTunnels(options)
  const { clock, readyTimeoutMs } = options
  const began = clock.hrtime()
  const leftMs = () => Math.max(0, readyTimeoutMs - Number(clock.hrtime() - began) / 1e6)
  const identity = await openIdentity(options)
  const parts: AsyncDisposable[] = [identity]
  const end = async () => {
    for (const part of parts.toReversed()) await part[Symbol.asyncDispose]()
  }
  try {
    const policy = await restoredPolicy(options, identity)
    parts.push(policy)
    const following = startFollowing(options, policy)
    parts.push(following)
    if (options.inbound.length > 0) {
      await firstPolicy({ options, policy, following, leftMs: leftMs() })
    }
    options.signal.throwIfAborted()
    const proxy = await startProxy({ ...options, identity, policy })
    return running({ options, identity, policy, following, proxy, end })
  } catch (error) {
    await end()
    throw error
  }
}

function assertTunnels({ inbound, outbound }: SidecarOptions): void {
  if (inbound.length + outbound.length > 0) return
  throw new SidecarError(
    'CS_TUNNEL_INVALID',
    'no listener is configured, neither inbound nor outbound',
  )
}

async function openIdentity(options: SidecarOptions): Promise<X509Source> {
  const { workloadApi: address, readyTimeoutMs, signal, log } = options
  log.info({ workloadApi: address }, 'waiting for the first SVID')
  try {
    return await X509Source.open({ address, readyTimeoutMs, signal, log, pick: firstThenSame() })
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof SpiffeError && error.code === 'CS_SOCKET_INVALID') throw error
    throw notReady(`no SVID came from ${address}: ${wordsOf(error)}`, error)
  }
}

/**
 * The default identity at the start, and that one ever after: the policy is for it. When it is granted
 * no more, there is no identity, even if there is another.
 */
function firstThenSame(): PickSvid {
  let chosen: SpiffeId | undefined
  return (svids) => {
    const svid = chosen === undefined ? svids[0] : svids.find(({ id }) => id === chosen)
    chosen ??= svid?.id
    return svid
  }
}

type OwnPolicy = PolicyInForce & { readonly target: SpiffeId; readonly instance: string }

async function restoredPolicy(options: SidecarOptions, identity: X509Source): Promise<OwnPolicy> {
  const { stateFolder, clock, random, log } = options
  const target = identity.x509Svid().id
  const instance = random.uuid()
  const file = stateFolder === undefined ? noSnapshotFile : await snapshotFile(stateFolder)
  const policy = policyInForce({ target, instance, identity, file, clock, log })
  await policy.restore()
  return { ...policy, target, instance }
}

function startFollowing(options: SidecarOptions, policy: OwnPolicy): FollowedPolicy {
  const { clock, random, log } = options
  const { target, instance } = policy
  return followPolicy({
    target,
    instance,
    policy,
    clock,
    random,
    log,
    address: parseEndpointAddress(options.workloadApi),
  })
}

interface FirstPolicy {
  readonly options: SidecarOptions
  readonly policy: PolicyInForce
  readonly following: FollowedPolicy
  readonly leftMs: number
}

async function firstPolicy({ options, policy, following, leftMs }: FirstPolicy): Promise<void> {
  const { workloadApi, clock, log } = options
  log.info({ workloadApi }, 'waiting for the policy')
  const over = new AbortController()
  const signal = AbortSignal.any([options.signal, over.signal])
  const longest = policy.current() ? Math.min(leftMs, FRESH_POLICY_MS) : leftMs
  try {
    await Promise.race([heardOf(policy), clock.sleep(longest, signal)])
  } finally {
    over.abort()
  }
  if (policy.current()) return
  const why =
    policy.standing()?.reason ??
    following.fault() ??
    'the agent does not answer on its policy stream'
  throw notReady(`no policy came from ${workloadApi}: ${why}`)
}

/** Resolves when there is a policy and the agent has had its say about it. */
function heardOf(policy: PolicyInForce): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      if (!policy.current() || !policy.standing()) return
      for (const stop of stops) stop()
      resolve()
    }
    const stops = [policy.onChange(look), policy.onReport(look)]
    look()
  })
}

interface Parts {
  readonly options: SidecarOptions
  readonly identity: IdentitySource
  readonly policy: OwnPolicy
  readonly following: FollowedPolicy
  readonly proxy: Proxy
  readonly end: () => Promise<void>
}

function running(parts: Parts): RunningSidecar {
  const { proxy, end } = parts
  let closing: Promise<boolean> | undefined
  const close = async (drainMs: number) => {
    try {
      return await proxy.close(drainMs)
    } finally {
      await end()
    }
  }
  return {
    proxy,
    readiness: () => readinessOf(parts, closing !== undefined),
    status: () => statusOf(parts),
    close: (drainMs) => (closing ??= close(drainMs)),
  }
}

function readinessOf({ identity, policy, options }: Parts, closing: boolean): Readiness {
  const reasons: string[] = []
  if (closing) reasons.push('stopping: takes nothing new')
  if (!currentSvid(identity)) {
    reasons.push(`CS_NO_IDENTITY: there is no valid SVID for ${policy.target}`)
  }
  if (options.inbound.length > 0 && !policy.current()) {
    reasons.push('no-snapshot: no policy was ever received')
  }
  return { ready: reasons.length === 0, reasons }
}

function statusOf({ identity, policy, following, proxy }: Parts): SidecarStatus {
  const svid = currentSvid(identity)
  const current = policy.current()
  return {
    identity: svid ? identityStatus(svid) : null,
    policy: current ? { id: current.id, generation: current.generation } : null,
    policy_standing: policy.standing() ?? null,
    policy_connected: following.connected(),
    tunnels: proxy.tunnels.map(({ name, direction, address, open }) => ({
      name,
      direction,
      open,
      address: formatHostPort(address),
    })),
    peers: proxy.connections.perTrustDomain,
  }
}

function identityStatus({ id, chain: [leaf] }: X509Svid): SidecarStatus['identity'] {
  const { serialNumber: serial, notAfter } = leaf
  return { id, serial, expires_at: new Date(notAfter).toISOString() }
}

const notReady = (message: string, cause?: unknown) =>
  new SidecarError('CS_SIDECAR_NOT_READY', message, { cause })

const wordsOf = (error: unknown) => (error instanceof Error ? error.message : 'unknown')

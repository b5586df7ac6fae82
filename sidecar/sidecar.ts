import type { Writable } from 'node:stream'
import type { Readiness } from '../platform/admin-http.js'
import type { Clock } from '../platform/clock.js'
import type { Log } from '../platform/log.js'
import type { Metrics } from '../platform/metrics.js'
import type { Random } from '../platform/random.js'
import { SpiffeError, type SpiffeId } from '../spiffe/index.js'
import { type PickSvid, parseEndpointAddress, X509Source } from '../spiffe/workload-api/index.js'
import type { AccessLogMode } from './access-log.js'
import { SidecarError } from './errors.js'
import { type PolicyInForce, policyInForce } from './policy-in-force.js'
import { type FollowedPolicy, followPolicy } from './policy-source.js'
import { type Proxy, startProxy } from './proxy.js'
import { type Running, readinessOf, type SidecarStatus, statusOf } from './sidecar-status.js'
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
    const hasInbound = options.inbound.length > 0
    return running({ target: policy.target, hasInbound, identity, policy, following, proxy }, end)
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

function running(parts: Running, end: () => Promise<void>): RunningSidecar {
  const { proxy } = parts
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

const notReady = (message: string, cause?: unknown) =>
  new SidecarError('CS_SIDECAR_NOT_READY', message, { cause })

const wordsOf = (error: unknown) => (error instanceof Error ? error.message : 'unknown')

import type { Writable } from 'node:stream'
import type { Readiness } from '../platform/admin-http.js'
import type { Clock } from '../platform/clock.js'
import { formatHostPort } from '../platform/listen.js'
import type { Log } from '../platform/log.js'
import type { Metrics } from '../platform/metrics.js'
import type { Random } from '../platform/random.js'
import { SpiffeError, type SpiffeId } from '../spiffe/index.js'
import { parseEndpointAddress, X509Source } from '../spiffe/workload-api/index.js'
import type { AccessLogMode } from './access-log.js'
import { SidecarError } from './errors.js'
import { currentSvid, type IdentitySource } from './identity.js'
import { type PolicyInForce, policyInForce } from './policy-in-force.js'
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
  /** Whether the agent is heard, from which changes of the policy come. */
  readonly policy_connected: boolean
  readonly tunnels: readonly {
    readonly name: string
    readonly direction: string
    readonly address: string
    readonly open: number
  }[]
}

/**
 * Starts a sidecar. Its listeners open only when there is an SVID and, for inbound ones, a policy: a
 * service that opens early and refuses is worse than one that is not ready. Throws
 * `CS_SIDECAR_NOT_READY`, `CS_TUNNEL_INVALID`, `CS_SOCKET_INVALID`, `CS_PORT_TAKEN`, `CS_LISTEN_FAILED`.
 */
export async function startSidecar(options: SidecarOptions): Promise<RunningSidecar> {
  assertTunnels(options)
  const ready = AbortSignal.any([options.signal, AbortSignal.timeout(options.readyTimeoutMs)])
  const identity = await openIdentity(options, ready)
  const parts: AsyncDisposable[] = [{ [Symbol.asyncDispose]: () => identity.close() }]
  const end = async () => {
    for (const part of parts.toReversed()) await part[Symbol.asyncDispose]()
  }
  try {
    const { policy, following } = await startPolicy(options, identity)
    parts.push(following)
    if (options.inbound.length > 0) await firstPolicy(policy, { options, ready })
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

async function openIdentity(options: SidecarOptions, ready: AbortSignal): Promise<X509Source> {
  const { workloadApi: address, readyTimeoutMs, log } = options
  log.info({ workloadApi: address }, 'waiting for the first SVID')
  try {
    return await X509Source.open({ address, readyTimeoutMs, signal: ready })
  } catch (error) {
    if (options.signal.aborted) throw options.signal.reason
    if (error instanceof SpiffeError && error.code === 'CS_SOCKET_INVALID') throw error
    throw notReady(`no SVID came from ${address}: ${wordsOf(error)}`, error)
  }
}

async function startPolicy(
  options: SidecarOptions,
  identity: X509Source,
): Promise<{ policy: PolicyInForce; following: FollowedPolicy }> {
  const { stateFolder, clock, random, log } = options
  const target = identity.x509Svid().id
  const instance = random.uuid()
  const file = stateFolder === undefined ? noSnapshotFile : await snapshotFile(stateFolder)
  const policy = policyInForce({ target, instance, bundles: identity, file, clock, log })
  await policy.restore()
  const following = followPolicy({
    ...{ target, instance, clock, random, log },
    address: parseEndpointAddress(options.workloadApi),
    take: (signed) => policy.take(signed),
  })
  return { policy, following }
}

interface Waiting {
  readonly options: SidecarOptions
  readonly ready: AbortSignal
}

function firstPolicy(policy: PolicyInForce, { options, ready }: Waiting): Promise<void> {
  return new Promise((resolve, reject) => {
    if (policy.current()) return resolve()
    options.log.info({ workloadApi: options.workloadApi }, 'waiting for the first policy')
    const settle = (finish: () => void) => {
      stop()
      ready.removeEventListener('abort', onAbort)
      finish()
    }
    const onAbort = () =>
      settle(() => {
        const { signal, workloadApi } = options
        reject(
          signal.aborted
            ? (signal.reason as Error)
            : notReady(`no policy came from ${workloadApi}`),
        )
      })
    const stop = policy.onChange(() => settle(resolve))
    ready.addEventListener('abort', onAbort, { once: true })
    if (ready.aborted) onAbort()
  })
}

interface Parts {
  readonly options: SidecarOptions
  readonly identity: IdentitySource
  readonly policy: PolicyInForce
  readonly following: FollowedPolicy
  readonly proxy: Proxy
  readonly end: () => Promise<void>
}

function running({ options, identity, policy, following, proxy, end }: Parts): RunningSidecar {
  let closing: Promise<boolean> | undefined
  const close = async (drainMs: number) => {
    const drained = await proxy.close(drainMs)
    await end()
    return drained
  }
  return {
    proxy,
    readiness: () => readinessOf({ closing: closing !== undefined, identity, policy, options }),
    status: () => ({
      identity: identityStatus(identity),
      policy: policyStatus(policy),
      policy_connected: following.connected(),
      tunnels: proxy.tunnels.map(({ name, direction, address, open }) => ({
        ...{ name, direction, open },
        address: formatHostPort(address),
      })),
    }),
    close: (drainMs) => (closing ??= close(drainMs)),
  }
}

function readinessOf({
  closing,
  identity,
  policy,
  options,
}: Pick<Parts, 'identity' | 'policy' | 'options'> & { readonly closing: boolean }): Readiness {
  const reasons: string[] = []
  if (closing) reasons.push('stopping: takes nothing new')
  if (!currentSvid(identity))
    reasons.push('CS_NO_IDENTITY: there is no SVID that could be presented')
  if (options.inbound.length > 0 && !policy.current())
    reasons.push('no-snapshot: no policy was ever received')
  return { ready: reasons.length === 0, reasons }
}

function identityStatus(identity: IdentitySource): SidecarStatus['identity'] {
  const svid = currentSvid(identity)
  if (!svid) return null
  const [{ serialNumber, notAfter }] = svid.chain
  return {
    id: svid.id satisfies SpiffeId,
    serial: serialNumber,
    expires_at: new Date(notAfter).toISOString(),
  }
}

function policyStatus(policy: PolicyInForce): SidecarStatus['policy'] {
  const current = policy.current()
  return current ? { id: current.id, generation: current.generation } : null
}

const notReady = (message: string, cause?: unknown) =>
  new SidecarError('CS_SIDECAR_NOT_READY', message, { cause })

const wordsOf = (error: unknown) => (error instanceof Error ? error.message : 'unknown')

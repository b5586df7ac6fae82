import type { Writable } from 'node:stream'
import { type Clock, systemClock } from '../platform/clock.js'
import type { Log } from '../platform/log.js'
import type { Metrics } from '../platform/metrics.js'
import { type Random, systemRandom } from '../platform/random.js'
import { peerVerifier, trustDomainOf, type X509Svid } from '../spiffe/index.js'
import { type AccessLogMode, accessLog } from './access-log.js'
import { type OpenConnections, openConnections } from './connections.js'
import { startDeadlines, type Timed } from './deadlines.js'
import { currentSvid, type IdentitySource } from './identity.js'
import { type RunningTunnel, startInbound } from './inbound.js'
import type { PolicySource } from './inbound-gate.js'
import { defaultLimits, type Limits } from './limits.js'
import { type ProxyMetrics, proxyMetrics } from './metrics.js'
import { startOutbound } from './outbound.js'
import { decisionIds, type ProxyContext } from './proxy-context.js'
import type { InboundTunnel, OutboundTunnel } from './tunnels.js'

export interface ProxyOptions {
  /** Must hold an SVID already. */
  readonly identity: IdentitySource
  readonly policy: PolicySource
  readonly inbound: readonly InboundTunnel[]
  readonly outbound: readonly OutboundTunnel[]
  readonly metrics: Metrics
  readonly log: Log
  readonly accessLog: { readonly destination: Writable; readonly mode: AccessLogMode }
  readonly limits?: Limits
  readonly clock?: Clock
  readonly random?: Random
}

/** All tunnels of a sidecar. */
export interface Proxy {
  readonly tunnels: readonly RunningTunnel[]
  readonly connections: OpenConnections
  /** Hands on at once what was counted and logged; it happens by itself a few times a second. */
  flush(): void
  /** Takes nothing new and lets what is under way end; resolves with whether all of it did in time. */
  close(drainMs: number): Promise<boolean>
}

/** Opens all tunnels, or none of them. Throws `CS_NO_IDENTITY`, `CS_PORT_TAKEN`, `CS_LISTEN_FAILED`. */
export async function startProxy(options: ProxyOptions): Promise<Proxy> {
  const context = contextOf(options)
  const tunnels: RunningTunnel[] = []
  const life = watchers(context, tunnels)
  const end = async () => {
    for (const tunnel of tunnels) tunnel.destroy()
    life.stop()
    await context.deadlines[Symbol.asyncDispose]()
  }
  try {
    for (const tunnel of options.inbound) tunnels.push(await startInbound(tunnel, context))
    for (const tunnel of options.outbound) tunnels.push(await startOutbound(tunnel, context))
  } catch (error) {
    await end()
    throw error
  }
  return {
    tunnels,
    connections: context.connections,
    flush: life.flush,
    async close(drainMs) {
      const drained = await drainAll(tunnels, { drainMs, clock: context.clock })
      await end()
      return drained
    },
  }
}

function contextOf(options: ProxyOptions): ProxyContext {
  const { identity, policy, log } = options
  const clock = options.clock ?? systemClock
  const random = options.random ?? systemRandom
  return {
    identity,
    policy,
    log,
    clock,
    random,
    limits: options.limits ?? defaultLimits,
    verifier: peerVerifier({ bundles: identity }),
    connections: openConnections(clock),
    deadlines: startDeadlines(clock),
    accessLog: accessLog({ ...options.accessLog, clock }),
    metrics: proxyMetrics(options.metrics),
    nextId: decisionIds(random),
  }
}

/** Carries every change over to what is open, and does what is due now and then. */
function watchers(context: ProxyContext, tunnels: readonly RunningTunnel[]) {
  const { identity, policy, deadlines, clock, metrics } = context
  let svid = currentSvid(identity)
  let edge = policy.current()?.nextEdge(clock.now().getTime())

  const onIdentity = () => {
    const before = svid
    svid = currentSvid(identity)
    if (!svid) for (const connection of context.connections) connection.cut('no-identity')
    else if (svid !== before) rotateAll(tunnels, context)
    if (svid) noteExpiry(svid, metrics)
    context.connections.verifyAgain(context.verifier)
  }
  const onPolicy = () => {
    const compiled = policy.current()
    edge = compiled?.nextEdge(clock.now().getTime())
    metrics.snapshotInfo.reset()
    if (compiled) metrics.snapshotInfo.set({ id: compiled.id }, compiled.generation)
    for (const tunnel of tunnels) tunnel.judgeAgain()
  }
  const flush = () => {
    for (const tunnel of tunnels) tunnel.flush()
    context.accessLog.flush()
  }
  const housekeeping: Timed = {
    deadline: Number.NEGATIVE_INFINITY,
    onDeadline() {
      context.connections.cutExpired()
      // A rule has begun or ended.
      if (edge !== undefined && clock.now().getTime() >= edge) onPolicy()
      flush()
    },
  }
  const stops = [identity.onChange(onIdentity), policy.onChange(onPolicy)]
  deadlines.add(housekeeping)
  if (svid) noteExpiry(svid, metrics)
  onPolicy()
  return {
    flush,
    stop() {
      for (const stop of stops) stop()
      flush()
    },
  }
}

/** One tunnel that cannot change over keeps what it has, and keeps no other from changing. */
function rotateAll(tunnels: readonly RunningTunnel[], { log }: ProxyContext): void {
  for (const tunnel of tunnels) {
    try {
      tunnel.rotate()
    } catch (error) {
      const reason = error instanceof Error ? error.message : 'unknown'
      log.error({ tunnel: tunnel.name, reason }, 'renewed SVID cannot be presented')
    }
  }
}

function noteExpiry({ id, chain }: X509Svid, metrics: ProxyMetrics): void {
  metrics.svidExpiry.set({ trust_domain: trustDomainOf(id) }, chain[0].notAfter / 1000)
}

async function drainAll(
  tunnels: readonly RunningTunnel[],
  { drainMs, clock }: { readonly drainMs: number; readonly clock: Clock },
): Promise<boolean> {
  const enough = new AbortController()
  const drained = Promise.all(tunnels.map((tunnel) => tunnel.drain())).then(() => true)
  if (drainMs === 0) return tunnels.every(({ busy }) => busy === 0)
  const late = clock.sleep(drainMs, enough.signal).then(
    () => tunnels.every(({ busy }) => busy === 0),
    () => true,
  )
  try {
    return await Promise.race([drained, late])
  } finally {
    enough.abort()
  }
}

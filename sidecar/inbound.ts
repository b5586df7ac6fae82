import type { HostPort } from '../platform/listen.js'
import type { SpiffeId, VerifiedPeer } from '../spiffe/index.js'
import { type Caller, identifyCaller } from './caller.js'
import type { OpenConnection } from './connections.js'
import { currentSvid } from './identity.js'
import { inboundHttp } from './inbound-http.js'
import { tunnelMeter } from './metrics.js'
import { type Member, openSet } from './open-set.js'
import type { ProxyContext } from './proxy-context.js'
import { inboundTcp } from './tcp/inbound-tcp.js'
import { listenTls, type SecureConnection } from './tls-listener.js'
import type { InboundTunnel } from './tunnels.js'

/** What serves a connection that was let in. */
export interface Served extends Member {
  retire(): void
  judgeAgain(): void
}

/** A caller at the door. */
export interface Arrival extends SecureConnection {
  readonly caller: Caller
  readonly ownId: SpiffeId
}

/** One protocol behind a TLS listener. */
export interface InboundProtocol {
  readonly alpn: readonly string[]
  /** Undefined when the connection is refused, and cut. */
  serve(arrival: Arrival): Served | undefined
  destroy(): void
}

/** A tunnel that is open. */
export interface RunningTunnel {
  readonly name: string
  readonly direction: 'inbound' | 'outbound'
  readonly address: HostPort
  readonly open: number
  /** Of these, on how many something is under way. */
  readonly busy: number
  /** A new SVID is there. */
  rotate(): void
  /** The policy has changed. */
  judgeAgain(): void
  /** Takes no new connection and lets the open ones come to their end; resolves when they have. */
  drain(): Promise<void>
  /** Hands on what was counted. */
  flush(): void
  destroy(): void
}

export async function startInbound(
  tunnel: InboundTunnel,
  context: ProxyContext,
): Promise<RunningTunnel> {
  const name = tunnel.name ?? `in-${tunnel.listen.port}`
  const { identity, metrics, connections } = context
  const target = identity.x509Svid().id
  const meter = tunnelMeter({ metrics, tunnel: name, target: () => target })
  const start = tunnel.protocol === 'tcp' ? inboundTcp : inboundHttp
  const protocol = start({ tunnel, name, meter, context })
  const open = openSet<OpenConnection>()

  const admit = (arrival: SecureConnection) => {
    const connection = letIn(arrival, { name, context, protocol })
    if (!connection) return
    open.set(arrival.socket, connection)
    connections.add(connection)
    metrics.open.inc({ tunnel: name, direction: 'inbound' })
    arrival.socket.once('close', () => {
      connections.remove(connection)
      metrics.open.dec({ tunnel: name, direction: 'inbound' })
    })
  }
  const { alpn } = protocol
  const { listen } = tunnel
  const listener = await listenTls({ name, listen, alpn, context, onConnection: admit })
  return {
    name,
    direction: 'inbound',
    address: listener.address,
    get open() {
      return open.size
    },
    get busy() {
      return open.busy
    },
    rotate() {
      listener.rotate()
      for (const connection of open) connection.retire()
    },
    judgeAgain() {
      for (const connection of open) connection.judgeAgain()
    },
    drain() {
      listener.stop()
      return open.drain()
    },
    flush: () => meter.flush(),
    destroy() {
      listener.destroy()
      open.cut('drain')
      protocol.destroy()
    },
  }
}

interface Letting {
  readonly name: string
  readonly context: ProxyContext
  readonly protocol: InboundProtocol
}

/** The connection as it is served from now on; undefined when it is refused, and cut. */
function letIn(arrival: SecureConnection, letting: Letting): OpenConnection | undefined {
  const caller = judgeArrival(arrival, letting)
  const svid = currentSvid(letting.context.identity)
  if (!caller || !svid) {
    arrival.socket.on('error', () => {}).destroy()
    return undefined
  }
  const served = letting.protocol.serve({ ...arrival, caller, ownId: svid.id })
  if (!served) return undefined
  const peer = caller.kind === 'verified' ? caller.peer : undefined
  // A connection lives no longer than the SVID of either side.
  const expiresAt = Math.min(svid.chain[0].notAfter, peer?.expiresAt ?? Infinity)
  return asOpen(served, { peer, expiresAt })
}

/** Who it is, or undefined when the connection cannot be let in at all. */
function judgeArrival(
  { socket }: SecureConnection,
  { name, context }: Letting,
): Caller | undefined {
  const { verifier, clock, metrics, limits, connections, log } = context
  const caller = identifyCaller(socket, { verifier, now: clock.now() })
  const count = (result: string) =>
    metrics.connections.inc({ tunnel: name, direction: 'inbound', result })
  const refuse = (reason: string) => {
    count('refused')
    metrics.handshakeFailures.inc({ tunnel: name, reason })
    return undefined
  }
  if (!caller) return refuse('resumed')
  if (caller.kind === 'unverified') {
    const { code, detail } = caller
    log.info({ tunnel: name, code, detail }, 'caller has no verified identity')
    metrics.handshakeFailures.inc({ tunnel: name, reason: detail })
    count('unauthenticated')
    return caller
  }
  const held = connections.countOf(caller.peer.id)
  if (held >= limits.connection.connectionsPerCaller) return refuse('too-many-of-caller')
  count('verified')
  return caller
}

function asOpen(
  served: Served,
  { peer, expiresAt }: { readonly peer: VerifiedPeer | undefined; readonly expiresAt: number },
): OpenConnection {
  return {
    peer,
    usage: 'client',
    expiresAt,
    get busy() {
      return served.busy
    },
    drain: () => served.drain(),
    retire: () => served.retire(),
    judgeAgain: () => served.judgeAgain(),
    cut: (reason) => served.cut(reason),
  }
}

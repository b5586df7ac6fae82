import { createServer, type Socket } from 'node:net'
import { listenOn } from '../platform/listen.js'
import { currentSvid } from './identity.js'
import type { RunningTunnel } from './inbound.js'
import { type TunnelMeter, tunnelMeter } from './metrics.js'
import { type Member, openSet } from './open-set.js'
import { outboundHttp } from './outbound-http.js'
import type { ProxyContext } from './proxy-context.js'
import { outboundTcp } from './tcp/outbound-tcp.js'
import type { OutboundTunnel } from './tunnels.js'

/** One protocol behind a listener for the app. */
export interface OutboundProtocol {
  serve(socket: Socket, onServed: (served: Member) => void): void
  /** A new SVID is there. */
  retire(): void
  destroy(): void
}

export interface OutboundProtocolOptions {
  readonly tunnel: OutboundTunnel
  readonly name: string
  readonly meter: TunnelMeter
  readonly context: ProxyContext
}

/** Takes calls of the app in plain and passes them on over mTLS. Throws `CS_PORT_TAKEN`, `CS_LISTEN_FAILED`. */
export async function startOutbound(
  tunnel: OutboundTunnel,
  context: ProxyContext,
): Promise<RunningTunnel> {
  const name = tunnel.name ?? `out-${tunnel.listen.port}`
  const { metrics, identity, limits, log } = context
  const target = () => currentSvid(identity)?.id ?? ''
  const meter = tunnelMeter({ metrics, tunnel: name, target })
  const start = tunnel.protocol === 'tcp' ? outboundTcp : outboundHttp
  const protocol = start({ tunnel, name, meter, context })
  const open = openSet<Member>()

  const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true })
  server.maxConnections = limits.connection.connections
  server.on('connection', (socket: Socket) => {
    open.set(socket, unserved(socket))
    protocol.serve(socket, (served) => open.set(socket, served))
  })
  const address = await listenOn(server, tunnel.listen)
  server.on('error', (error) =>
    log.error({ tunnel: name, error: error.message }, 'listener failed'),
  )
  return {
    name,
    direction: 'outbound',
    address,
    get open() {
      return open.size
    },
    get busy() {
      return open.busy
    },
    rotate: () => protocol.retire(),
    judgeAgain() {},
    drain() {
      server.close()
      return open.drain()
    },
    flush: () => meter.flush(),
    destroy() {
      server.close()
      open.cut('drain')
      protocol.destroy()
    },
  }
}

/** A connection on which nothing has come yet. */
function unserved(socket: Socket): Member {
  const close = () => void socket.destroy()
  return { busy: false, drain: close, cut: close }
}

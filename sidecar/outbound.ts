import { createServer, type Socket } from 'node:net'
import { listenOn } from '../platform/listen.js'
import type { CloseReason } from './exchange.js'
import type { RunningTunnel } from './inbound.js'
import { type TunnelMeter, tunnelMeter } from './metrics.js'
import { outboundHttp } from './outbound-http.js'
import type { ProxyContext } from './proxy-context.js'
import { outboundTcp } from './tcp/outbound-tcp.js'
import type { OutboundTunnel } from './tunnels.js'

export interface OutboundProtocolOptions {
  readonly tunnel: OutboundTunnel
  readonly name: string
  readonly meter: TunnelMeter
  readonly context: ProxyContext
}

/** What serves one connection of the app. */
export interface ServedOut {
  /** Ends when what is under way is complete. */
  drain(): void
  cut(reason: CloseReason): void
}

/** One protocol behind a plain listener. */
export interface OutboundProtocol {
  serve(socket: Socket): ServedOut
  /** The own SVID was renewed. */
  rotate(): void
  destroy(): void
}

/** Takes calls of the app in plain and passes them on over mTLS. Throws `CS_PORT_TAKEN`, `CS_LISTEN_FAILED`. */
export async function startOutbound(
  tunnel: OutboundTunnel,
  context: ProxyContext,
): Promise<RunningTunnel> {
  const name = tunnel.name ?? `out-${tunnel.listen.port}`
  const { metrics, identity, limits, log } = context
  const target = identity.x509Svid().id
  const meter = tunnelMeter({ metrics, tunnel: name, target: () => target })
  const start = tunnel.protocol === 'tcp' ? outboundTcp : outboundHttp
  const protocol = start({ tunnel, name, meter, context })
  const open = new Map<Socket, ServedOut>()
  let onEmpty: (() => void) | undefined

  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    const served = protocol.serve(socket)
    open.set(socket, served)
    socket.once('close', () => {
      open.delete(socket)
      if (open.size === 0) onEmpty?.()
    })
    if (onEmpty) served.drain()
  })
  server.maxConnections = limits.connection.connections
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
    rotate: () => protocol.rotate(),
    judgeAgain() {},
    drain() {
      server.close()
      for (const served of open.values()) served.drain()
      return new Promise((resolve) => {
        onEmpty = resolve
        if (open.size === 0) resolve()
      })
    },
    flush: () => meter.flush(),
    destroy() {
      server.close()
      for (const served of open.values()) served.cut('drain')
      protocol.destroy()
    },
  }
}

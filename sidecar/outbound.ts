import { createServer, type Socket } from 'node:net'
import { listenOn } from '../platform/listen.js'
import type { CloseReason } from './exchange.js'
import { currentSvid } from './identity.js'
import type { RunningTunnel } from './inbound.js'
import { type TunnelMeter, tunnelMeter } from './metrics.js'
import { outboundHttp } from './outbound-http.js'
import type { ProxyContext } from './proxy-context.js'
import { outboundTcp } from './tcp/outbound-tcp.js'
import type { OutboundTunnel } from './tunnels.js'

/** What serves one connection of the app. */
export interface ServedApp {
  /** Whether something is under way. */
  readonly busy: boolean
  drain(): void
  cut(reason: CloseReason): void
}

/** One protocol behind a listener for the app. */
export interface OutboundProtocol {
  serve(socket: Socket, onServed: (served: ServedApp) => void): void
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
  const open = new Map<Socket, ServedApp | undefined>()
  let onEmpty: (() => void) | undefined

  const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true })
  server.maxConnections = limits.connection.connections
  server.on('connection', (socket: Socket) => {
    open.set(socket, undefined)
    socket.once('close', () => {
      open.delete(socket)
      if (open.size === 0) onEmpty?.()
    })
    protocol.serve(socket, (served) => {
      open.set(socket, served)
      if (onEmpty) served.drain()
    })
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
      return [...open.values()].filter((served) => served?.busy).length
    },
    rotate: () => protocol.retire(),
    judgeAgain() {},
    drain() {
      server.close()
      for (const [socket, served] of open) {
        if (served) served.drain()
        else socket.destroy()
      }
      return new Promise((resolve) => {
        onEmpty = resolve
        if (open.size === 0) resolve()
      })
    },
    flush: () => meter.flush(),
    destroy() {
      server.close()
      for (const [socket, served] of open) {
        served?.cut('drain')
        socket.destroy()
      }
      protocol.destroy()
    },
  }
}

import type { Socket } from 'node:net'
import type { Deadlines } from './deadlines.js'
import { connectionFields, httpHandler } from './http-exchange.js'
import { httpPeer, type Preference } from './http-peer.js'
import { Http1ServerConnection } from './http1/server-connection.js'
import { Http2ServerSession } from './http2/server-session.js'
import { currentSvid } from './identity.js'
import { servedMethods } from './methods.js'
import type { OutboundProtocol, OutboundProtocolOptions } from './outbound.js'
import { outboundGate } from './outbound-gate.js'

/** The beginning of the preface of HTTP/2: no method of HTTP/1.1 is spelt like that. */
const PREFACE = 'PRI'

/** Calls of the app: HTTP/1.1, or HTTP/2 without asking first. */
export function outboundHttp(options: OutboundProtocolOptions): OutboundProtocol {
  const { tunnel, name, meter, context } = options
  const { limits, deadlines, clock, random, accessLog, identity } = context
  const methods = servedMethods()
  const peers = new Map(
    tunnel.routes.map((route) => [route.host, httpPeer({ tunnel: name, route, context })]),
  )
  const peerFor = (host: string) => peers.get(host) ?? peers.get('*')
  const handlerFor = (prefer: Preference) =>
    httpHandler({
      gate: outboundGate({ peerFor, methods, prefer, newRequestId: () => random.uuid() }),
      clock,
      log: accessLog,
      meter,
      fields: connectionFields({
        tunnel: name,
        protocol: prefer,
        caller: currentSvid(identity)?.id,
      }),
      callerNamespace: 'other',
      secure: 'mtls',
      nextId: context.nextId,
    })
  return {
    serve(socket, onServed) {
      detect(socket, {
        deadlines,
        patience: limits.time.keepAlive,
        onKnown(prefer) {
          const served = { socket, handler: handlerFor(prefer), limits, deadlines }
          if (prefer === 'h2') onServed(new Http2ServerSession(served))
          else {
            onServed(new Http1ServerConnection(served))
            socket.resume()
          }
        },
      })
    },
    retire() {
      for (const peer of peers.values()) peer.retire()
    },
    destroy() {
      for (const peer of peers.values()) peer.destroy()
    },
  }
}

/** Looks at the first bytes and puts them back. */
function detect(
  socket: Socket,
  options: {
    readonly deadlines: Deadlines
    readonly patience: number
    readonly onKnown: (prefer: Preference) => void
  },
): void {
  const { deadlines, patience, onKnown } = options
  const timed = { deadline: deadlines.now + patience, onDeadline: () => void socket.destroy() }
  let seen = Buffer.alloc(0)
  const stop = () => {
    deadlines.remove(timed)
    socket.off('readable', look).off('error', destroy).off('end', destroy).off('close', stop)
  }
  const destroy = () => void socket.destroy()
  const look = () => {
    const chunk = socket.read() as Buffer | null
    if (!chunk) return
    seen = Buffer.concat([seen, chunk])
    const text = seen.toString('latin1', 0, PREFACE.length)
    if (text !== PREFACE && PREFACE.startsWith(text)) return
    stop()
    socket.unshift(seen)
    onKnown(text === PREFACE ? 'h2' : 'http/1.1')
  }
  deadlines.add(timed)
  socket.on('readable', look).on('error', destroy).on('end', destroy).on('close', stop)
}

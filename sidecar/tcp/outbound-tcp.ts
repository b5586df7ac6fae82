import type { Socket } from 'node:net'
import { connectionFields } from '../http-exchange.js'
import { currentSvid } from '../identity.js'
import type { OutboundProtocol, OutboundProtocolOptions, ServedOut } from '../outbound.js'
import { dialPeer, keepAccount, type PeerConnection } from '../peer.js'
import { relayTcp, type TcpRecord, tcpRecord } from './tcp-connection.js'

/** TCP connections of the app, each over a TLS connection of its own to the only route. */
export function outboundTcp(options: OutboundProtocolOptions): OutboundProtocol {
  const { tunnel, name, context } = options
  const [route] = tunnel.routes
  const life = new AbortController()
  return {
    serve(near) {
      const given = new AbortController()
      const record = recordOf(options)
      let cut = (): void => {
        given.abort()
        near.destroy()
      }
      if (!route) {
        record.ended('upstream')
        cut()
        return { drain() {}, cut }
      }
      // Nothing is read of the app until there is somewhere to put it.
      near.pause()
      near.on('error', () => given.abort()).once('close', () => given.abort())
      const signal = AbortSignal.any([life.signal, given.signal])
      void dialPeer({ tunnel: name, route, context, signal }).then((dialled) => {
        if ('failure' in dialled) {
          record.ended('upstream')
          near.resetAndDestroy()
          return
        }
        cut = relay({ near, record, connection: dialled, options })
      })
      return { drain() {}, cut: () => cut() } satisfies ServedOut
    },
    rotate() {},
    destroy: () => life.abort(),
  }
}

function recordOf({ name, meter, context }: OutboundProtocolOptions): TcpRecord {
  return tcpRecord({
    ...{ context, meter, tunnel: name },
    secure: 'mtls',
    callerNamespace: 'other',
    decision: undefined,
    fields: connectionFields({
      tunnel: name,
      protocol: 'tcp',
      caller: currentSvid(context.identity)?.id,
    }),
  })
}

interface Relaying {
  readonly near: Socket
  readonly record: TcpRecord
  readonly connection: PeerConnection
  readonly options: OutboundProtocolOptions
}

function relay({ near, record, connection, options }: Relaying): () => void {
  const { context, name } = options
  const far = connection.socket
  const running = relayTcp({ near, far, record, context })
  far.on('data', (bytes: Buffer) => running.fromFar(bytes))
  near.resume()
  keepAccount(
    connection,
    { context, tunnel: name },
    {
      drain() {},
      retire() {},
      cut: (reason) => running.cut(reason),
    },
  )
  return () => running.cut('drain')
}

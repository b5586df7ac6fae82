import type { Socket } from 'node:net'
import type { CloseReason } from '../exchange.js'
import { connectionFields } from '../http-exchange.js'
import { currentSvid } from '../identity.js'
import type { Member } from '../open-set.js'
import type { OutboundProtocol, OutboundProtocolOptions } from '../outbound.js'
import { dialPeer, keepAccount, type PeerConnection } from '../peer.js'
import { relayTcp, tcpRecord } from './tcp-connection.js'

/** A TCP connection of the app, passed on to the one peer that the tunnel is for. */
export function outboundTcp(options: OutboundProtocolOptions): OutboundProtocol {
  const { tunnel, name, meter, context } = options
  const [route] = tunnel.routes

  const relay = (near: Socket, connection: PeerConnection): Member => {
    const { socket: far, peer } = connection
    const record = tcpRecord({
      context,
      meter,
      tunnel: name,
      secure: 'mtls',
      callerNamespace: 'other',
      decision: undefined,
      fields: connectionFields({
        tunnel: name,
        protocol: 'tcp',
        caller: currentSvid(context.identity)?.id,
        to: peer.id,
      }),
    })
    const relayed = relayTcp({ near, far, record, context })
    far.on('data', (chunk: Buffer) => relayed.fromFar(chunk))
    const cut = (reason: CloseReason) => relayed.cut(reason)
    // Both sides end by themselves, or when the time for it is over.
    keepAccount(connection, { context, tunnel: name }, { retire() {}, cut })
    near.resume()
    return { busy: true, drain() {}, cut }
  }
  const carry = async (near: Socket, onServed: (served: Member) => void) => {
    const dialled = route && (await dialPeer({ tunnel: name, route, alpn: [], context }))
    if (!dialled || 'code' in dialled) near.resetAndDestroy()
    else if (near.destroyed) dialled.socket.destroy()
    else onServed(relay(near, dialled))
  }
  return {
    serve(near, onServed) {
      near.on('error', () => near.destroy())
      void carry(near, onServed)
    },
    retire() {},
    destroy() {},
  }
}

import type { Socket } from 'node:net'
import { type CanonicalRequest, canonicalise } from '../policies/index.js'
import type { RequestHead } from './exchange.js'
import { headerOf, passedOn } from './headers.js'
import { connectionFields, type Gate, httpHandler, type Judgement } from './http-exchange.js'
import { type HttpPeer, http1Peer } from './http-peer.js'
import { Http1ServerConnection } from './http1/server-connection.js'
import { currentSvid } from './identity.js'
import { hostOf } from './inbound-gate.js'
import { servedMethods } from './methods.js'
import type { OutboundProtocol, OutboundProtocolOptions } from './outbound.js'

/** HTTP calls of the app: the host of each says where it goes. */
export function outboundHttp({
  tunnel,
  name,
  meter,
  context,
}: OutboundProtocolOptions): OutboundProtocol {
  const { limits, deadlines, random, identity, clock, accessLog } = context
  const peers = new Map(
    tunnel.routes.map((route) => [
      route.host,
      { route, peer: http1Peer({ tunnel: name, route, context }) },
    ]),
  )
  const methods = servedMethods(undefined)

  const gate: Gate = {
    judge(head): Judgement {
      const request = canonicalise(rawRequestOf(head))
      if ('malformed' in request) return { kind: 'malformed', code: request.malformed }
      if (!methods.has(request.method)) return { kind: 'malformed', code: 'unknown_method' }
      const found = peers.get(request.host) ?? peers.get('*')
      if (!found) return { kind: 'fail', failure: { code: 'no-route', detail: request.host } }
      return forward({
        request,
        head,
        peer: found.peer,
        to: found.route.host,
        newId: () => random.uuid(),
      })
    },
  }
  return {
    serve(socket: Socket) {
      const fields = connectionFields({
        tunnel: name,
        protocol: 'http/1.1',
        caller: currentSvid(identity)?.id,
      })
      const handler = httpHandler({
        ...{ gate, clock, meter, fields, log: accessLog, nextId: context.nextId },
        callerNamespace: 'other',
        secure: 'mtls',
      })
      return new Http1ServerConnection({ socket, handler, limits, deadlines })
    },
    rotate() {
      for (const { peer } of peers.values()) peer.rotate()
    },
    destroy() {
      for (const { peer } of peers.values()) peer.destroy()
    },
  }
}

interface Forwarding {
  readonly request: CanonicalRequest
  readonly head: RequestHead
  readonly peer: HttpPeer
  readonly to: string
  readonly newId: () => string
}

/** The peer decides by its policy; here the request only gets the one spelling that the peer will decide on. */
function forward({ request, head, peer, to, newId }: Forwarding): Judgement {
  const headers = passedOn(head.headers, head.connectionNames)
  if (headerOf(headers, 'x-request-id') === undefined) headers.push('x-request-id', newId())
  const { method, path, query } = request
  const { body, upgrade } = head
  const forwarded = {
    method,
    target: path + query,
    host: hostOf(request, head),
    headers,
    body,
    upgrade,
  }
  return {
    kind: 'forward',
    path,
    decision: undefined,
    to,
    send: (requester) => peer.request(forwarded, requester),
    stillAllowed: () => true,
  }
}

function rawRequestOf({ method, target, hosts, authority }: RequestHead) {
  return authority === undefined ? { method, target, hosts } : { method, target, hosts, authority }
}

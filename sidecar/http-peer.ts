import type { ForwardedHead, Requester, Responder } from './exchange.js'
import type { Failure } from './failures.js'
import { http1Pool } from './http1/pool.js'
import { dialPeer, keepAccount, type PeerConnection } from './peer.js'
import { PendingRequest } from './pending-request.js'
import type { ProxyContext } from './proxy-context.js'
import type { Route } from './tunnels.js'

/** The sidecar at the address of a route, over HTTP/1.1 connections that are kept. */
export interface HttpPeer {
  request(head: ForwardedHead, requester: Requester): Responder | Failure
  /** The own SVID was renewed: what is open serves no further request. */
  rotate(): void
  destroy(): void
}

export interface HttpPeerOptions {
  readonly tunnel: string
  readonly route: Route
  readonly context: ProxyContext
}

export function http1Peer({ tunnel, route, context }: HttpPeerOptions): HttpPeer {
  const { limits, deadlines } = context
  const life = new AbortController()
  const pool = http1Pool({
    limits,
    deadlines,
    keepIdle: limits.time.peerIdle,
    passedOn: (headers) => headers,
  })
  let dialling = 0

  const adopt = (connection: PeerConnection) => {
    const { socket } = connection
    const client = pool.add(socket)
    socket.on('data', (chunk: Buffer) => client.received(chunk))
    keepAccount(
      connection,
      { context, tunnel },
      {
        drain: () => client.retire(),
        retire: () => client.retire(),
        cut: () => socket.destroy(),
      },
    )
    return client
  }
  const dial = (head: ForwardedHead, requester: Requester): PendingRequest => {
    const given = new AbortController()
    const pending = new PendingRequest(requester, () => given.abort())
    const signal = AbortSignal.any([life.signal, given.signal])
    dialling += 1
    void dialPeer({ tunnel, route, context, alpn: ['http/1.1'], signal }).then((dialled) => {
      dialling -= 1
      if ('failure' in dialled) return pending.failed(dialled.failure)
      const client = adopt(dialled)
      if (pending.wanted) pending.connected(client.request(head, requester))
      else client.retire()
    })
    return pending
  }
  return {
    request(head, requester) {
      const idle = pool.idle()
      if (idle) return idle.request(head, requester)
      if (pool.size + dialling >= limits.connection.upstreamConnections)
        return { code: 'upstream-busy' }
      return dial(head, requester)
    },
    rotate: () => pool.retire(),
    destroy() {
      life.abort()
      pool.destroy()
    },
  }
}

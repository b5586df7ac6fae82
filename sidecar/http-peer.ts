import type { SpiffeId } from '../spiffe/index.js'
import type { ForwardedHead, Headers, Requester, Responder } from './exchange.js'
import type { Failure } from './failures.js'
import { http1Pool } from './http1/pool.js'
import { sessionPool } from './http2/session-pool.js'
import { dialPeer, keepAccount, type PeerConnection } from './peer.js'
import { PendingRequest } from './pending-request.js'
import type { ProxyContext } from './proxy-context.js'
import type { Route } from './tunnels.js'

/** Which version of HTTP is preferred: that of the app's own request, which needs no translation. */
export type Preference = 'http/1.1' | 'h2'

export interface PeerRequest {
  readonly head: ForwardedHead
  readonly requester: Requester
  readonly prefer: Preference
  /** Told who is asked, once that is known. */
  readonly onPeer: (id: SpiffeId) => void
}

/** The peers at the address of one route, over kept connections of mTLS. */
export interface HttpPeer {
  request(request: PeerRequest): Responder | Failure
  /** The own SVID was renewed: new requests go over new connections. */
  retire(): void
  destroy(): void
}

export interface HttpPeerOptions {
  readonly tunnel: string
  readonly route: Route
  readonly context: ProxyContext
}

/** What can take a request now. */
interface Taker {
  request(head: ForwardedHead, requester: Requester): Responder | Failure
}

type Outcome = Taker | Failure

const ALPN: Readonly<Record<Preference, readonly string[]>> = {
  'http/1.1': ['http/1.1', 'h2'],
  h2: ['h2', 'http/1.1'],
}

const unchanged = (headers: Headers) => headers

export function httpPeer(options: HttpPeerOptions): HttpPeer {
  const { limits, deadlines } = options.context
  const ids = new WeakMap<Taker, SpiffeId>()
  const kept = { limits, deadlines, keepIdle: limits.time.peerIdle, passedOn: unchanged }
  const plain = http1Pool(kept)
  const again = (head: ForwardedHead, requester: Requester) =>
    send({ head, requester, prefer: 'h2', onPeer: () => {} })
  const sessions = sessionPool({ ...kept, scheme: 'https', again })
  let dialling = 0
  /** Requests over HTTP/2 share the connection that is being made. */
  let joint: Promise<Outcome> | undefined

  const ready = (prefer: Preference): Taker | undefined =>
    prefer === 'h2' ? (sessions.usable() ?? plain.idle()) : (plain.idle() ?? sessions.usable())

  const send = (request: PeerRequest): Responder | Failure => {
    const { head, requester, prefer, onPeer } = request
    const taker = ready(prefer)
    if (taker) return handOver(taker, request)
    const open = plain.size + sessions.size + dialling
    if (open >= limits.connection.upstreamConnections) return { code: 'upstream-busy' }
    const pending = new PendingRequest(head, requester)
    void obtain(prefer).then((outcome) =>
      pending.settle((head, requester) =>
        'code' in outcome ? outcome : handOver(outcome, { head, requester, prefer, onPeer }),
      ),
    )
    return pending
  }
  const handOver = (taker: Taker, { head, requester, onPeer }: PeerRequest) => {
    const id = ids.get(taker)
    if (id) onPeer(id)
    return taker.request(head, requester)
  }
  /** A taker of one's own, or over HTTP/2 one that is shared. */
  const obtain = async (prefer: Preference): Promise<Outcome> => {
    if (prefer === 'http/1.1') return open(prefer)
    const first = joint === undefined
    joint ??= open(prefer).finally(() => {
      joint = undefined
    })
    const outcome = await joint
    // A connection of HTTP/1.1 is for the one who asked for it.
    return first || 'code' in outcome ? outcome : (ready(prefer) ?? open(prefer))
  }
  const open = async (prefer: Preference): Promise<Outcome> => {
    dialling += 1
    const dialled = await dialPeer({ ...options, alpn: ALPN[prefer] }).finally(() => {
      dialling -= 1
    })
    return 'code' in dialled ? dialled : adopt(dialled)
  }
  const adopt = async (dialled: PeerConnection): Promise<Outcome> => {
    const { socket, peer } = dialled
    const taker = socket.alpnProtocol === 'h2' ? await adoptSession(dialled) : adoptPlain(dialled)
    if (!('code' in taker)) ids.set(taker, peer.id)
    return taker
  }
  const adoptPlain = (dialled: PeerConnection): Taker => {
    const { socket } = dialled
    const connection = plain.add(socket)
    socket.on('data', (chunk: Buffer) => connection.received(chunk))
    register(dialled, () => connection.retire())
    return connection
  }
  /** With TLS 1.3 the peer judges our certificate after our handshake; its settings say that it accepts. */
  const adoptSession = async (dialled: PeerConnection): Promise<Outcome> => {
    const session = sessions.add(dialled.socket)
    register(dialled, () => session.retire())
    if (await session.whenSettled()) return session
    return { code: 'upstream-closed', detail: 'peer closed the connection after the handshake' }
  }
  const register = (dialled: PeerConnection, retire: () => void) =>
    keepAccount(dialled, options, { retire, cut: () => void dialled.socket.destroy() })

  return {
    request: send,
    retire() {
      plain.retire()
      sessions.retire()
    },
    destroy() {
      plain.destroy()
      sessions.destroy()
    },
  }
}

import { canonicalise } from '../policies/index.js'
import { headerOf, passedOn } from './headers.js'
import type { Gate, Judgement } from './http-exchange.js'
import type { HttpPeer, Preference } from './http-peer.js'
import { hostOf, rawRequestOf } from './inbound-gate.js'

export interface OutboundGateOptions {
  /** The peer for a host, if there is a route. */
  readonly peerFor: (host: string) => HttpPeer | undefined
  readonly methods: ReadonlySet<string>
  readonly prefer: Preference
  readonly newRequestId: () => string
}

/**
 * Sends what the app asks to the peer that its host stands for. The policy is the peer's to apply; here the
 * request only gets the one spelling that the peer will decide on.
 */
export function outboundGate(options: OutboundGateOptions): Gate {
  const { peerFor, methods, prefer, newRequestId } = options
  return {
    judge(head): Judgement {
      const request = canonicalise(rawRequestOf(head))
      if ('malformed' in request) return { kind: 'malformed', code: request.malformed }
      if (!methods.has(request.method)) return { kind: 'malformed', code: 'unknown_method' }
      const { method, path, query } = request
      const peer = peerFor(request.host)
      if (!peer) return { kind: 'fail', failure: { code: 'no-route', detail: request.host } }

      const headers = passedOn(head.headers, head.connectionNames)
      if (headerOf(headers, 'x-request-id') === undefined) {
        headers.push('x-request-id', newRequestId())
      }
      const { body, upgrade } = head
      const host = hostOf(request, head)
      const sent = { method, target: path + query, host, headers, body, upgrade }
      let to: string | undefined
      return {
        kind: 'forward',
        path,
        decision: undefined,
        snapshotId: undefined,
        to: () => to,
        stillAllowed: () => true,
        send: (requester) =>
          peer.request({
            head: sent,
            requester,
            prefer,
            onPeer: (id) => {
              to = id
            },
          }),
      }
    },
  }
}

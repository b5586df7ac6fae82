import type { TLSSocket } from 'node:tls'
import { type Authorize, authorize, SpiffeError, type VerifiedPeer } from '../spiffe/index.js'
import { connectTls } from '../spiffe/tls/index.js'
import type { OpenConnection } from './connections.js'
import type { Failure } from './failures.js'
import { currentSvid } from './identity.js'
import type { ProxyContext } from './proxy-context.js'
import type { Expectation, Route } from './tunnels.js'

/** A connection to a peer that has proved to be whom the route expects. */
export interface PeerConnection {
  readonly socket: TLSSocket
  readonly peer: VerifiedPeer
}

/** Why no connection to a peer could be made, or the connection. */
export type Dialled = PeerConnection | { readonly failure: Failure }

/** How to end what goes on over a connection; the rest of an open connection is settled here. */
export type Ends = Pick<OpenConnection, 'drain' | 'retire' | 'cut'>

export interface DialOptions {
  readonly tunnel: string
  readonly route: Route
  readonly alpn?: readonly string[]
  readonly context: ProxyContext
  readonly signal: AbortSignal
}

/**
 * Connects to the address of a route with the newest SVID. Nothing is sent before the peer is verified
 * against the bundle of its own trust domain and is one of those expected.
 */
export async function dialPeer(options: DialOptions): Promise<Dialled> {
  const { route, alpn, context, tunnel, signal } = options
  const { identity, verifier, clock, limits, metrics, log } = context
  const timeout = AbortSignal.any([signal, AbortSignal.timeout(limits.time.connect)])
  try {
    return await connectTls({
      ...route.address,
      ...(alpn && { alpn }),
      identity,
      verifier,
      authorize: authorizeBy(route.expect),
      now: () => clock.now(),
      signal: timeout,
    })
  } catch (error) {
    const failure = failureOf(error, { timedOut: timeout.aborted && !signal.aborted })
    metrics.handshakeFailures.inc({ tunnel, reason: failure.code })
    log.warn(
      { tunnel, host: route.host, code: failure.code, detail: failure.detail },
      'peer not reached',
    )
    return { failure }
  }
}

/** Enters a connection among those that are judged again when a bundle changes, and end with an SVID. */
export function keepAccount(
  { socket, peer }: PeerConnection,
  { context, tunnel }: Pick<DialOptions, 'context' | 'tunnel'>,
  ends: Ends,
): void {
  const { connections, metrics, identity } = context
  const own = currentSvid(identity)?.chain[0].notAfter ?? 0
  const connection: OpenConnection = {
    peer,
    usage: 'server',
    expiresAt: Math.min(own, peer.expiresAt),
    judgeAgain() {},
    drain: () => ends.drain(),
    retire: () => ends.retire(),
    cut: (reason) => ends.cut(reason),
  }
  connections.add(connection)
  metrics.connections.inc({ tunnel, direction: 'outbound', result: 'verified' })
  metrics.open.inc({ tunnel, direction: 'outbound' })
  socket.once('close', () => {
    connections.remove(connection)
    metrics.open.dec({ tunnel, direction: 'outbound' })
  })
}

function authorizeBy(expect: Expectation): Authorize {
  switch (expect.kind) {
    case 'one-of':
      return authorize.oneOf(expect.ids)
    case 'member-of':
      return authorize.memberOf(expect.trustDomain)
  }
}

function failureOf(error: unknown, { timedOut }: { readonly timedOut: boolean }): Failure {
  const detail = error instanceof Error ? error.message : 'unknown'
  if (timedOut) return { code: 'upstream-timeout', detail }
  if (!(error instanceof SpiffeError)) return { code: 'upstream-unreachable', detail }
  if (error.code === 'CS_NO_IDENTITY') return { code: 'no-identity', detail }
  return { code: 'peer-refused', detail: `${error.code}: ${detail}` }
}

import { connect, type Socket } from 'node:net'
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
  /** Milliseconds since 1970: when the SVID of either side ends. */
  readonly expiresAt: number
}

export interface DialOptions {
  readonly tunnel: string
  readonly route: Route
  readonly alpn: readonly string[]
  readonly context: ProxyContext
}

/** How to end what goes on over a connection; the rest of an open connection is settled here. */
export type Ends = Pick<OpenConnection, 'retire' | 'cut'>

/**
 * Connects to the address of a route with the newest SVID. Nothing is sent before the peer is verified
 * against the bundle of its own trust domain and is one of those expected. A failure is no exception:
 * there is always somebody to be told.
 */
export async function dialPeer(options: DialOptions): Promise<PeerConnection | Failure> {
  const { route, tunnel, context } = options
  const { metrics, log } = context
  const dialled = await dial(options)
  if (!('code' in dialled)) return dialled
  metrics.handshakeFailures.inc({ tunnel, reason: dialled.code })
  log.warn({ tunnel, host: route.host, ...dialled }, 'peer not reached')
  return dialled
}

/** Enters a connection among those that are judged again when a bundle changes, and end with an SVID. */
export function keepAccount(
  { socket, peer, expiresAt }: PeerConnection,
  { context, tunnel }: Pick<DialOptions, 'context' | 'tunnel'>,
  { retire, cut }: Ends,
): void {
  const { connections, metrics } = context
  const judgeAgain = () => {}
  const connection: OpenConnection = {
    peer,
    usage: 'server',
    expiresAt,
    busy: true,
    judgeAgain,
    drain: retire,
    retire,
    cut,
  }
  connections.add(connection)
  metrics.connections.inc({ tunnel, direction: 'outbound', result: 'verified' })
  metrics.open.inc({ tunnel, direction: 'outbound' })
  socket.once('close', () => {
    connections.remove(connection)
    metrics.open.dec({ tunnel, direction: 'outbound' })
  })
}

async function dial({ route, alpn, context }: DialOptions): Promise<PeerConnection | Failure> {
  const svid = currentSvid(context.identity)
  if (!svid) return { code: 'no-identity' }
  const { host, port } = route.address
  const raw = connect({ host, port, allowHalfOpen: true, noDelay: true })
  // The handshake reports it as well; without a listener it would end the process.
  raw.on('error', () => {})
  try {
    const { socket, peer } = await handshake(raw, { route, alpn, context })
    return { socket, peer, expiresAt: Math.min(svid.chain[0].notAfter, peer.expiresAt) }
  } catch (error) {
    raw.destroy()
    return failureOf(error)
  }
}

/** The peer did not take the connection in time. */
const TOO_LATE = new Error('connecting took too long')

async function handshake(
  raw: Socket,
  { route, alpn, context }: Omit<DialOptions, 'tunnel'>,
): Promise<{ readonly socket: TLSSocket; readonly peer: VerifiedPeer }> {
  const { identity, verifier, clock, deadlines, limits } = context
  const late = new AbortController()
  const timed = {
    deadline: deadlines.now + limits.time.connect,
    onDeadline: () => late.abort(TOO_LATE),
  }
  deadlines.add(timed)
  try {
    return await connectTls({
      socket: raw,
      identity,
      verifier,
      authorize: authorizeBy(route.expect),
      now: () => clock.now(),
      ...(alpn.length > 0 && { alpn }),
      signal: late.signal,
    })
  } finally {
    deadlines.remove(timed)
  }
}

function authorizeBy(expect: Expectation): Authorize {
  switch (expect.kind) {
    case 'one-of':
      return authorize.oneOf(expect.ids)
    case 'member-of':
      return authorize.memberOf(expect.trustDomain)
  }
}

function failureOf(error: unknown): Failure {
  const detail = error instanceof Error ? error.message : 'unknown'
  if (error === TOO_LATE) return { code: 'upstream-timeout', detail }
  if (!(error instanceof SpiffeError)) return { code: 'upstream-unreachable', detail }
  return { code: 'peer-refused', detail: `${error.code}: ${detail}` }
}

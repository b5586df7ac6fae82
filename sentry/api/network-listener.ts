import type { Socket } from 'node:net'
import { createServer, type TLSSocket } from 'node:tls'
import type { ConnectionInjector } from '@grpc/grpc-js'
import type { Clock } from '../../platform/clock.js'
import { type HostPort, listenOn } from '../../platform/listen.js'
import type { Log } from '../../platform/log.js'
import {
  isMemberOf,
  type PeerVerifier,
  SpiffeError,
  type SpiffeId,
  type TrustDomain,
  type X509Svid,
} from '../../spiffe/index.js'
import { presentedChain, secureContextOf, serverTlsOptions } from '../../spiffe/tls/index.js'
import { SentryError } from '../errors.js'
import { turns } from '../turns.js'
import type { CallerBook, IdentifiedCaller } from './caller.js'
import { connections } from './connections.js'
import { handshakePlaces, places } from './places.js'
import { codeOf } from './reply.js'

export interface ConnectionLimits {
  /** Open at the same time, handshakes included. */
  readonly maxConnections: number
  /** Handshakes that one address may have under way; a peer that goes on with none of them holds each. */
  readonly maxHandshakesPerAddress: number
  /** The part of them that callers without a certificate may have. */
  readonly maxAnonymous: number
  readonly maxAnonymousPerAddress: number
  /** To attest takes seconds, so nobody needs to stay without a certificate. */
  readonly anonymousLifeMs: number
  readonly handshakeTimeoutMs: number
}

export interface NetworkListenerOptions {
  readonly listen: HostPort
  readonly identity: X509Svid
  readonly verifier: PeerVerifier
  readonly trustDomain: TrustDomain
  /** IDs, also of other trust domains, that may administer this sentry. */
  readonly adminIds: ReadonlySet<SpiffeId>
  readonly callers: CallerBook
  readonly injector: ConnectionInjector
  /** For callers without a certificate, whom nobody needs to trust with much memory. */
  readonly anonymousInjector: ConnectionInjector
  readonly limits: ConnectionLimits
  readonly clock: Clock
  readonly log: Log
}

/** Where agents and remote administrators come in. */
export interface NetworkListener {
  readonly address: HostPort
  connections(): number
  /** New handshakes use it; open connections stay. */
  setIdentity(identity: X509Svid): void
  /** Verifies the open connections from a trust domain again and closes those that no longer pass. */
  judgeAgain(trustDomain: TrustDomain): Promise<void>
  /** Lets no new connection in. */
  stop(): void
  /** Resolves when nobody is connected any more. */
  drained(): Promise<void>
  destroyAll(): void
}

/**
 * Asks for a certificate without requiring one, since attestation has none yet, and verifies it before
 * the first request. Throws `CS_PORT_TAKEN`, `CS_LISTEN_FAILED`.
 */
export async function listenOnNetwork(options: NetworkListenerOptions): Promise<NetworkListener> {
  const { limits, log, injector, anonymousInjector } = options
  const open = connections(options.callers, ({ kind }) =>
    kind === 'anonymous' ? anonymousInjector : injector,
  )
  const identified = new Map<TLSSocket, { id: SpiffeId; chain: readonly Uint8Array[] }>()
  const anonymous = places({
    inAll: limits.maxAnonymous,
    perAddress: limits.maxAnonymousPerAddress,
  })
  const handshakes = handshakePlaces({
    inAll: limits.maxConnections,
    perAddress: limits.maxHandshakesPerAddress,
  })

  const serve = (socket: TLSSocket) => {
    const address = socket.remoteAddress ?? ''
    const chain = chainOf(socket)
    if (chain.length > 0) {
      const caller = identify(chain, { ...options, address })
      identified.set(socket, { id: caller.id, chain })
      socket.on('close', () => identified.delete(socket))
      open.serve(socket, caller)
      return
    }
    const leave = anonymous.enter(address)
    if (!leave)
      throw new SentryError('CS_RATE_LIMITED', 'too many connections without a certificate')
    const gone = new AbortController()
    socket.on('close', () => {
      leave()
      gone.abort()
    })
    options.clock.sleep(limits.anonymousLifeMs, gone.signal).then(
      () => socket.destroy(),
      () => undefined,
    )
    open.serve(socket, { kind: 'anonymous', address })
  }

  const server = createServer({
    ...serverTlsOptions(options.identity),
    handshakeTimeout: limits.handshakeTimeoutMs,
    ALPNProtocols: ['h2'],
  })
  server.maxConnections = limits.maxConnections
  server.on('connection', (socket: Socket) => {
    open.track(socket)
    if (!handshakes.begin(socket)) socket.destroy()
  })
  server.on('tlsClientError', (error, socket) => {
    log.debug({ address: socket.remoteAddress, error: error.message }, 'handshake failed')
    socket.destroy()
  })
  server.on('secureConnection', (socket) => {
    open.track(socket)
    handshakes.over(socket)
    try {
      serve(socket)
    } catch (error) {
      const refused = { address: socket.remoteAddress, code: codeOf(error) }
      log.info({ ...refused, error: (error as Error).message }, 'connection refused')
      socket.destroy()
    }
  })

  const address = await listenOn(server, options.listen)
  // Accepting may fail when descriptors run out, which is over by itself.
  server.on('error', (error) => log.warn({ error: error.message }, 'connection was not accepted'))
  return {
    address,
    connections: () => open.served(),
    setIdentity: (identity) => server.setSecureContext(secureContextOf(identity)),
    async judgeAgain(trustDomain) {
      const turn = turns(options.clock)
      for (const [socket, { id, chain }] of identified) {
        if (!isMemberOf(id, trustDomain)) continue
        await turn.take()
        if (!passes(chain, options)) socket.destroy()
      }
    },
    stop: () => void server.close(),
    drained: () => open.drained(),
    destroyAll: () => open.destroyAll(),
  }
}

/** What the peer presented, if anything; none of it verified. */
function chainOf(socket: TLSSocket): readonly Uint8Array[] {
  if (socket.alpnProtocol !== 'h2') {
    throw new SentryError('CS_REQUEST_INVALID', 'peer did not agree on HTTP/2')
  }
  if (socket.isSessionReused()) {
    throw new SpiffeError('CS_PEER_NOT_SPIFFE', 'session was resumed')
  }
  return presentedChain(socket)
}

type Judging = Pick<NetworkListenerOptions, 'verifier' | 'trustDomain' | 'adminIds' | 'clock'>

function identify(
  chain: readonly Uint8Array[],
  options: Judging & { readonly address: string },
): IdentifiedCaller {
  const { verifier, trustDomain, adminIds, clock, address } = options
  const { id, chain: verified, expiresAt } = verifier.verify(chain, clock.now(), 'client')
  if (!isMemberOf(id, trustDomain) && !adminIds.has(id)) {
    throw new SpiffeError('CS_PEER_NOT_AUTHORIZED', `${id} is of another trust domain`)
  }
  return { kind: 'identified', id, leaf: verified[0], expiresAt, address }
}

function passes(chain: readonly Uint8Array[], options: Judging): boolean {
  try {
    identify(chain, { ...options, address: '' })
    return true
  } catch {
    return false
  }
}

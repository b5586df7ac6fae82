import type { Duplex } from 'node:stream'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import type { Authorize, PeerVerifier, VerifiedPeer, X509SvidSource } from '../index.js'
import { clientContext } from './context.js'
import { verifyTlsPeer } from './peer.js'

/** Where to: a connected stream, a TCP address or a Unix socket. */
export type TlsTarget =
  | { readonly socket: Duplex }
  | { readonly host: string; readonly port: number }
  | { readonly path: string }

export type ConnectTlsOptions = TlsTarget & {
  /** Presents this identity. Without one the server learns nothing about the caller. */
  readonly identity?: X509SvidSource | undefined
  readonly verifier: PeerVerifier
  readonly authorize: Authorize
  readonly now: () => Date
  readonly alpn?: readonly string[] | undefined
  /** Sent in the clear as SNI. It says where to go, not whom to trust. */
  readonly servername?: string | undefined
  readonly signal: AbortSignal
}

export interface TlsConnection {
  readonly socket: TLSSocket
  readonly peer: VerifiedPeer
}

/**
 * Opens a TLS connection to a server whose SPIFFE ID is verified and authorized before anything is sent.
 * With TLS 1.3 the server may still refuse our certificate after this resolves; the socket then ends.
 * Throws the codes of {@link verifyTlsPeer}, `CS_PEER_NOT_AUTHORIZED`, `CS_NO_IDENTITY`, the socket's own
 * error or the reason of the signal, and leaves no socket open then.
 */
export async function connectTls(options: ConnectTlsOptions): Promise<TlsConnection> {
  const { verifier, authorize, now, signal } = options
  const socket = start(options)
  try {
    await handshake(socket, signal)
    const peer = verifyTlsPeer(socket, { verifier, now: now(), usage: 'server' })
    authorize(peer.id)
    return { socket, peer }
  } catch (error) {
    discard(socket)
    throw error
  }
}

function start(options: ConnectTlsOptions): TLSSocket {
  const { identity, signal } = options
  try {
    signal.throwIfAborted()
    assertOpen(options)
    const secureContext = clientContext(identity?.x509Svid())
    return connect({ ...connectionOptions(options), secureContext })
  } catch (error) {
    if ('socket' in options) options.socket.destroy()
    throw error
  }
}

/** TLS over a stream that has ended already would never report anything. */
function assertOpen(target: TlsTarget): void {
  if ('socket' in target && target.socket.destroyed) {
    throw new Error('connection was closed before the TLS handshake')
  }
}

function connectionOptions(options: ConnectTlsOptions): ConnectionOptions {
  const { alpn, servername } = options
  return {
    ...targetOf(options),
    // Judged by verifyTlsPeer. The name of a host says nothing about a SPIFFE ID.
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
    ...(alpn && { ALPNProtocols: [...alpn] }),
    ...(servername !== undefined && { servername }),
  }
}

function targetOf(target: TlsTarget): ConnectionOptions {
  if ('socket' in target) return { socket: target.socket }
  if ('path' in target) return { path: target.path }
  return { host: target.host, port: target.port }
}

function handshake(socket: TLSSocket, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (finish: () => void) => () => {
      socket.off('secureConnect', onSecure).off('error', onError).off('close', onClose)
      signal.removeEventListener('abort', onAbort)
      finish()
    }
    const onSecure = settle(resolve)
    const onError = (error: Error) => settle(() => reject(error))()
    const onClose = settle(() => reject(new Error('connection closed during the TLS handshake')))
    const onAbort = settle(() => reject(signal.reason as Error))
    socket.on('secureConnect', onSecure).on('error', onError).on('close', onClose)
    signal.addEventListener('abort', onAbort, { once: true })
  })
}

/** Closes a socket that nobody will use. What it still has to say is not an error any more. */
function discard(socket: TLSSocket): void {
  socket.on('error', () => {})
  socket.destroy()
}

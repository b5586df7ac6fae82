import type { Socket } from 'node:net'
import { createServer, type TLSSocket } from 'node:tls'
import { type HostPort, listenOn } from '../platform/listen.js'
import { secureContextOf, serverTlsOptions } from '../spiffe/tls/index.js'
import { arrivals } from './arrivals.js'
import type { ProxyContext } from './proxy-context.js'

/** A connection whose handshake is over. Nothing of what it sends has been read. */
export interface SecureConnection {
  readonly socket: TLSSocket
  /**
   * Closes with a TCP reset: no close_notify, no answer. The socket must not be touched after it: Node 20
   * crashes when the TLS side is destroyed in the same turn.
   */
  reset(): void
}

export interface TlsListenerOptions {
  readonly name: string
  readonly listen: HostPort
  readonly alpn: readonly string[]
  readonly context: ProxyContext
  readonly onConnection: (connection: SecureConnection) => void
}

export interface TlsListener {
  readonly address: HostPort
  /** Presents the present SVID in handshakes from now on. Open connections stay as they are. */
  rotate(): void
  /** Takes no new connection. */
  stop(): void
  destroy(): void
}

/** Listens for mTLS with the own SVID. Throws `CS_NO_IDENTITY`, `CS_PORT_TAKEN`, `CS_LISTEN_FAILED`. */
export async function listenTls(options: TlsListenerOptions): Promise<TlsListener> {
  const { name, listen, alpn, context, onConnection } = options
  const { identity, limits, log } = context
  const arriving = arrivals({ tunnel: name, context })
  const server = createServer({
    ...serverTlsOptions(identity.x509Svid()),
    ...(alpn.length > 0 && { ALPNProtocols: [...alpn] }),
    allowHalfOpen: true,
    noDelay: true,
  })
  server.maxConnections = limits.connection.connections
  // In front of Node's own listener, which starts the handshake.
  server.prependListener('connection', (raw: Socket) => arriving.accepted(raw))
  server.on('drop', () => arriving.dropped())
  server.on('tlsClientError', (error: NodeJS.ErrnoException) => arriving.failed(error))
  server.on('secureConnection', (socket: TLSSocket) => {
    const raw = arriving.secured(socket)
    if (raw) onConnection({ socket, reset: () => reset(socket, raw) })
    else socket.destroy()
  })
  const address = await listenOn(server, listen)
  server.on('error', (error) =>
    log.error({ tunnel: name, error: error.message }, 'listener failed'),
  )
  return {
    address,
    rotate: () => server.setSecureContext(secureContextOf(identity.x509Svid())),
    stop: () => void server.close(),
    destroy() {
      server.close()
      arriving.destroy()
    },
  }
}

function reset(socket: TLSSocket, raw: Socket): void {
  socket.on('error', () => {})
  raw.resetAndDestroy()
}

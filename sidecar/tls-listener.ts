import type { Socket } from 'node:net'
import { createServer, type TLSSocket } from 'node:tls'
import { type HostPort, listenOn } from '../platform/listen.js'
import { secureContextOf, serverTlsOptions } from '../spiffe/tls/index.js'
import { type ConnectRate, connectRate } from './connect-rate.js'
import type { Timed } from './deadlines.js'
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

/** What is known of a connection before its handshake is over. */
interface Arrival extends Timed {
  readonly key: string
  readonly raw: Socket
  readonly at: bigint
}

/** Listens for mTLS with the own SVID. Throws `CS_NO_IDENTITY`, `CS_PORT_TAKEN`, `CS_LISTEN_FAILED`. */
export async function listenTls(options: TlsListenerOptions): Promise<TlsListener> {
  const { name, listen, alpn, context, onConnection } = options
  const { identity, metrics, clock, limits, deadlines, log } = context
  const arrivals = new Map<string, Arrival>()
  const handshakes = metrics.handshakeSeconds.with({ tunnel: name })
  const rate = connectRate(limits.connection, deadlines)
  const server = createServer({
    ...serverTlsOptions(identity.x509Svid()),
    ...(alpn.length > 0 && { ALPNProtocols: [...alpn] }),
    allowHalfOpen: true,
    noDelay: true,
  })
  /** Closed by us for being slow; what Node reports of them looks like a reset by the other side. */
  let late = 0
  const forget = (arrival: Arrival) => {
    deadlines.remove(arrival)
    if (arrivals.get(arrival.key) === arrival) arrivals.delete(arrival.key)
  }
  const refuse = (reason: string) => metrics.handshakeFailures.inc({ tunnel: name, reason })
  server.maxConnections = limits.connection.connections

  server.prependListener('connection', (raw: Socket) => {
    if (!admits(rate, raw)) {
      refuse('connect-rate')
      raw.destroy()
      return
    }
    const arrival = {
      key: keyOf(raw),
      raw,
      at: clock.hrtime(),
      deadline: deadlines.now + limits.time.handshake,
      onDeadline() {
        late += 1
        raw.destroy()
      },
    }
    arrivals.set(arrival.key, arrival)
    deadlines.add(arrival)
    raw.once('close', () => forget(arrival))
  })
  server.on('drop', () => refuse('too-many-connections'))
  server.on('tlsClientError', (error: NodeJS.ErrnoException) => {
    const reason = failureOf(error)
    const isLate = reason === 'closed' && late > 0
    if (isLate) late -= 1
    refuse(isLate ? 'timeout' : reason)
  })
  server.on('secureConnection', (socket: TLSSocket) => {
    const arrival = arrivals.get(keyOf(socket))
    if (!arrival) {
      socket.destroy()
      return
    }
    forget(arrival)
    handshakes.observe(seconds(clock.hrtime() - arrival.at))
    const reset = () => {
      socket.on('error', () => {})
      arrival.raw.resetAndDestroy()
    }
    onConnection({ socket, reset })
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
      for (const { raw } of arrivals.values()) raw.destroy()
    },
  }
}

function admits(rate: ConnectRate, { remoteAddress }: Socket): boolean {
  return remoteAddress === undefined || rate.allows(remoteAddress)
}

const keyOf = ({ remoteAddress, remotePort }: Socket) => `${remoteAddress} ${remotePort}`

const seconds = (nanoseconds: bigint) => Number(nanoseconds) / 1e9

/** A closed list, because it becomes a label. */
function failureOf({ code }: NodeJS.ErrnoException): string {
  if (code === 'ERR_TLS_HANDSHAKE_TIMEOUT') return 'timeout'
  return code === 'ECONNRESET' ? 'closed' : 'tls'
}

import { isIP, type Socket } from 'node:net'
import {
  type CallCredentials,
  ChannelCredentials,
  type ChannelOptions,
  credentials,
  type experimental,
} from '@grpc/grpc-js'
import type { Authorize, PeerVerifier, X509SvidSource } from '../index.js'
import { SpiffeError } from '../index.js'
import { nodeRuntime, type RuntimeClock } from '../runtime.js'
import { connectTls } from '../tls/index.js'
import { withDeadline } from '../workload-api/waiting.js'

export interface SpiffeChannelOptions {
  /** What this side presents; read anew for every connection. Nothing is presented without it. */
  readonly identity?: X509SvidSource
  readonly verifier: PeerVerifier
  /** Whom this side expects. Throws for anybody else. */
  readonly authorize: Authorize
  readonly now: () => Date
  /** The clock that bounds the handshake; that of the process unless given. */
  readonly clock?: RuntimeClock
}

/** grpc-js itself sets no limit, and a server that is silent would hold the channel for ever. */
const HANDSHAKE_TIMEOUT_MS = 10_000

/**
 * Credentials for a grpc-js channel whose peer is known by its SPIFFE ID and not by its host name.
 * Every connection is a full handshake of our own; a peer that does not pass is never spoken to.
 */
export function spiffeChannelCredentials(options: SpiffeChannelOptions): ChannelCredentials {
  return new SpiffeChannelCredentials(options)
}

// The class below is what grpc-js asks for: it offers no other way to bring one's own handshake.
class SpiffeChannelCredentials extends ChannelCredentials {
  readonly #options: SpiffeChannelOptions

  constructor(options: SpiffeChannelOptions) {
    super()
    this.#options = options
  }

  override _isSecure(): boolean {
    return true
  }

  /** Connections are shared between channels whose credentials are equal. */
  override _equals(other: ChannelCredentials): boolean {
    return this === other
  }

  override _createSecureConnector(
    target: experimental.GrpcUri,
    channel: ChannelOptions,
    callCredentials?: CallCredentials,
  ): experimental.SecureConnector {
    const servername = channel['grpc.ssl_target_name_override'] ?? hostIn(target.path)
    return secureConnector(this.#options, servername, callCredentials)
  }
}

function secureConnector(
  options: SpiffeChannelOptions,
  servername: string | undefined,
  callCredentials: CallCredentials | undefined,
): experimental.SecureConnector {
  const { clock = nodeRuntime.clock, ...peer } = options
  const life = new AbortController()
  const expired = () =>
    new SpiffeError('CS_ENDPOINT_UNAVAILABLE', `no TLS handshake within ${HANDSHAKE_TIMEOUT_MS} ms`)
  const handshake = (socket: Socket) =>
    withDeadline({ clock, ms: HANDSHAKE_TIMEOUT_MS, signal: life.signal, expired }, (signal) =>
      connectTls({ ...peer, socket, alpn: ['h2'], ...(servername && { servername }), signal }),
    )
  return {
    async connect(raw) {
      const { socket } = await handshake(raw)
      return { socket, secure: true }
    },
    waitForReady: () => Promise.resolve(),
    getCallCredentials: () => callCredentials ?? credentials.createEmpty(),
    destroy: () => life.abort(new SpiffeError('CS_ENDPOINT_UNAVAILABLE', 'channel was closed')),
  }
}

/** The name to send in the handshake. TLS has no room there for an IP address or a socket path. */
function hostIn(path: string): string | undefined {
  const colon = path.lastIndexOf(':')
  const host = colon === -1 ? path : path.slice(0, colon)
  const isName = /^[A-Za-z0-9._-]+$/.test(host) && isIP(host) === 0
  return isName ? host : undefined
}

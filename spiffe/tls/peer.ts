import type { TLSSocket } from 'node:tls'
import { type PeerUsage, type PeerVerifier, SpiffeError, type VerifiedPeer } from '../index.js'

/** As many as a verifier looks at, and one more so that it can refuse. */
const MAX_CERTIFICATES = 11

/**
 * The DER certificates that the peer presented, leaf first; none if it presented none. To be called once:
 * on some versions of Node a second look at the peer's certificates no longer finds all of them.
 */
export function presentedChain(socket: TLSSocket): Uint8Array[] {
  const chain: Uint8Array[] = []
  const seen = new Set<object>()
  let certificate = socket.getPeerCertificate(true)
  // Node links a self-signed certificate to itself, and gives an empty object for none.
  while (
    certificate?.raw !== undefined &&
    !seen.has(certificate) &&
    chain.length < MAX_CERTIFICATES
  ) {
    seen.add(certificate)
    chain.push(certificate.raw)
    certificate = certificate.issuerCertificate
  }
  return chain
}

export interface TlsPeerOptions {
  readonly verifier: PeerVerifier
  readonly now: Date
  /** What the peer does: `client` when it has called, `server` when it was called. */
  readonly usage: PeerUsage
}

/**
 * Verifies who is at the other end of a socket whose handshake is over. This is the only thing that may
 * decide on it: `authorized` is always false. Throws what {@link PeerVerifier.verify} throws, and
 * `CS_PEER_NOT_SPIFFE` for a peer without a certificate or with a resumed session.
 */
export function verifyTlsPeer(socket: TLSSocket, options: TlsPeerOptions): VerifiedPeer {
  if (socket.isSessionReused()) {
    throw new SpiffeError(
      'CS_PEER_NOT_SPIFFE',
      'session was resumed, so the peer proved nothing in it',
    )
  }
  return options.verifier.verify(presentedChain(socket), options.now, options.usage)
}

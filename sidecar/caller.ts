import type { TLSSocket } from 'node:tls'
import type { UnauthenticatedDetail } from '../policies/index.js'
import {
  type PeerVerifier,
  parseCertificate,
  SpiffeError,
  type SpiffeErrorCode,
  type VerifiedPeer,
} from '../spiffe/index.js'
import { presentedChain } from '../spiffe/tls/index.js'

/** Who is at the other end of a connection that came in. */
export type Caller =
  | { readonly kind: 'verified'; readonly peer: VerifiedPeer }
  | {
      readonly kind: 'unverified'
      readonly detail: UnauthenticatedDetail
      readonly code: SpiffeErrorCode
    }

/**
 * Judges the certificates of a connection before anything it sends is read. Undefined for a resumed
 * session, in which the peer has proved nothing: such a connection is cut.
 */
export function identifyCaller(
  socket: TLSSocket,
  { verifier, now }: { readonly verifier: PeerVerifier; readonly now: Date },
): Caller | undefined {
  if (socket.isSessionReused()) return undefined
  const chain = presentedChain(socket)
  try {
    return { kind: 'verified', peer: verifier.verify(chain, now, 'client') }
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    return { kind: 'unverified', detail: detailOf(error, chain), code: error.code }
  }
}

function detailOf(error: SpiffeError, chain: readonly Uint8Array[]): UnauthenticatedDetail {
  switch (error.code) {
    case 'CS_BUNDLE_NOT_FOUND':
      return 'unknown-trust-domain'
    case 'CS_SVID_EXPIRED':
      return 'svid-expired'
    case 'CS_PEER_NOT_SPIFFE':
      return detailOfNames(chain)
    default:
      return 'chain-invalid'
  }
}

function detailOfNames([leaf]: readonly Uint8Array[]): UnauthenticatedDetail {
  if (leaf === undefined) return 'no-certificate'
  return parseCertificate(leaf).uriNames.length > 1 ? 'multiple-uri-san' : 'not-spiffe'
}

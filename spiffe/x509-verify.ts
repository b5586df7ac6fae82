import { type BundleSource, bundleOf, type TrustBundle } from './bundle.js'
import { SpiffeError } from './errors.js'
import { type SpiffeId, trustDomainOf } from './id.js'
import type { Certificate } from './x509-certificate.js'
import { parseCertificate } from './x509-parse.js'
import { findCertificatePath } from './x509-path.js'
import type { CertificatePath, PeerUsage } from './x509-path-checks.js'
import { assertLeafProfile, spiffeIdIn } from './x509-profile.js'

/** A peer whose certificates were judged. Whether it holds the key is for the handshake to show. */
export interface VerifiedPeer {
  readonly id: SpiffeId
  /** As presented. */
  readonly chain: readonly [Certificate, ...Certificate[]]
  /** As accepted: the leaf first, the authority from the bundle last. */
  readonly path: readonly Certificate[]
  /** Milliseconds since 1970: the earliest end on the path. */
  readonly expiresAt: number
}

export interface X509Verification {
  /** DER certificates as presented: the leaf first, then intermediates in any order. */
  readonly chain: readonly Uint8Array[]
  readonly bundles: BundleSource
  readonly now: Date
  /** What the peer does. Without it, a certificate for either side will do. */
  readonly usage?: PeerUsage | undefined
}

/** Certificates that are looked at; a peer that needs more is no peer. */
const MAX_PRESENTED = 10

/**
 * Verifies a peer's chain against the bundle of the trust domain that the leaf names, and no other
 * (X509-SVID §5). Throws `CS_PEER_NOT_SPIFFE`, `CS_X509_SVID_INVALID`, `CS_BUNDLE_NOT_FOUND`,
 * `CS_PEER_CHAIN_INVALID` or `CS_SVID_EXPIRED`.
 */
export function verifyX509Svid({ chain, ...options }: X509Verification): VerifiedPeer {
  return judgePresented({ ...options, chain: parsePresented(chain, parseCertificate) }).peer
}

/** The same for certificates that were read already; gives back the bundle that decided as well. */
export function judgePresented({
  chain,
  bundles,
  now,
  usage,
}: Omit<X509Verification, 'chain'> & { readonly chain: CertificatePath }): {
  readonly peer: VerifiedPeer
  readonly bundle: TrustBundle
} {
  const [leaf, ...intermediates] = chain
  const id = idOfPeer(leaf)
  assertLeafProfile(leaf)
  const bundle = bundleOf(bundles, trustDomainOf(id))
  const anchors = bundle.x509Authorities
  const path = findCertificatePath({ leaf, intermediates, anchors, now: now.getTime(), usage })
  const expiresAt = Math.min(...path.map(({ notAfter }) => notAfter))
  return { peer: { id, chain, path, expiresAt }, bundle }
}

/** Reads what a peer presents, all of it, within bounds. Throws `CS_PEER_NOT_SPIFFE` or `CS_PEER_CHAIN_INVALID`. */
export function parsePresented(
  chain: readonly Uint8Array[],
  parse: (der: Uint8Array) => Certificate,
): CertificatePath {
  if (chain.length > MAX_PRESENTED) {
    throw chainInvalid(`peer presents more than ${MAX_PRESENTED} certificates`)
  }
  const [leaf, ...others] = chain.map((der, index) => {
    try {
      return parse(der)
    } catch (error) {
      throw chainInvalid(`certificate ${index} of the peer: ${(error as Error).message}`, error)
    }
  })
  if (leaf === undefined)
    throw new SpiffeError('CS_PEER_NOT_SPIFFE', 'peer presents no certificate')
  return [leaf, ...others]
}

function chainInvalid(message: string, cause?: unknown): SpiffeError {
  return new SpiffeError('CS_PEER_CHAIN_INVALID', message, { cause })
}

function idOfPeer(leaf: Certificate): SpiffeId {
  try {
    return spiffeIdIn(leaf)
  } catch (error) {
    throw new SpiffeError('CS_PEER_NOT_SPIFFE', (error as Error).message, { cause: error })
  }
}

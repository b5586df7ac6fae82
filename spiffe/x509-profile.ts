import { SpiffeError } from './errors.js'
import { parseSpiffeId, pathOf, type SpiffeId } from './id.js'
import type { Certificate } from './x509-certificate.js'
import { extensionIds } from './x509-extensions.js'

/** Bits of the key usage extension (RFC 5280 §4.2.1.3). */
export const keyUsages = {
  digitalSignature: 1 << 0,
  keyEncipherment: 1 << 2,
  keyAgreement: 1 << 4,
  keyCertSign: 1 << 5,
  cRLSign: 1 << 6,
} as const

/** Purposes of the extended key usage extension (RFC 5280 §4.2.1.12). */
export const extendedKeyUsages = {
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
  any: '2.5.29.37.0',
} as const

const invalid = (message: string, options?: ErrorOptions) =>
  new SpiffeError('CS_X509_SVID_INVALID', message, options)

/**
 * Holds a leaf to the X509-SVID profile and returns the ID it carries. The sentry calls it on what it has
 * just signed, the Workload API on what it hands out and every verifier on what a peer presents, so that
 * they cannot come to disagree. Throws `CS_X509_SVID_INVALID`.
 *
 * @see https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md#5-validation
 */
export function assertLeafProfile(leaf: Certificate): SpiffeId {
  const { keyUsage } = leaf
  if (leaf.basicConstraints?.ca) throw invalid('certificate is a CA, not a leaf')
  if (keyUsage === undefined) throw invalid('leaf has no key usage')
  if ((keyUsage & keyUsages.keyCertSign) !== 0) throw invalid('leaf may sign certificates')
  if ((keyUsage & keyUsages.cRLSign) !== 0) throw invalid('leaf may sign revocation lists')
  if ((keyUsage & keyUsages.digitalSignature) === 0) throw invalid('leaf lacks digitalSignature')

  const id = spiffeIdIn(leaf)
  if (pathOf(id) === '') throw invalid('leaf carries the ID of a trust domain, not of a workload')
  return id
}

/**
 * Holds a leaf also to what only its issuer must keep (X509-SVID §3.1, §4), and which a verifier forgives.
 * Throws `CS_X509_SVID_INVALID`.
 */
export function assertIssuedLeafProfile(leaf: Certificate): SpiffeId {
  const id = assertLeafProfile(leaf)
  const purposes = leaf.extendedKeyUsage
  const { serverAuth, clientAuth } = extendedKeyUsages
  if (leaf.basicConstraints === undefined) throw invalid('leaf has no basic constraints')
  if (!leaf.criticalExtensions.includes(extensionIds.keyUsage))
    throw invalid('key usage is not critical')
  if (purposes !== undefined && !(purposes.includes(serverAuth) && purposes.includes(clientAuth))) {
    throw invalid('extended key usage lacks serverAuth or clientAuth')
  }
  if (hasEmptySubject(leaf) && !leaf.subjectAltNameCritical) {
    throw invalid('subject is empty and the alternative name not critical')
  }
  return id
}

/** The single SPIFFE ID of a certificate. Throws `CS_X509_SVID_INVALID`. */
export function spiffeIdIn(certificate: Certificate): SpiffeId {
  const [uri, ...others] = certificate.uriNames
  if (uri === undefined) throw invalid('certificate has no URI name')
  if (others.length > 0) throw invalid(`certificate has ${others.length + 1} URI names, not one`)
  try {
    return parseSpiffeId(uri)
  } catch (error) {
    throw invalid(`URI name is not a SPIFFE ID: ${(error as Error).message}`, { cause: error })
  }
}

/** Why a certificate may not sign others (RFC 5280 §6.1.4 (k), (n)), or `undefined` if it may. */
export function signingDefect({ basicConstraints, keyUsage }: Certificate): string | undefined {
  if (!basicConstraints?.ca) return 'is not a CA'
  if (keyUsage !== undefined && (keyUsage & keyUsages.keyCertSign) === 0) {
    return 'has a key usage without signing certificates'
  }
  return undefined
}

/** An empty Name is an empty SEQUENCE. */
export function hasEmptySubject(certificate: Certificate): boolean {
  return certificate.subject.length === 2
}

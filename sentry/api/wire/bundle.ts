import { createPublicKey } from 'node:crypto'
import {
  Bundle,
  type BundleMask,
  type JWTKey,
  type X509Certificate,
} from '../../../proto/gen/spire/api/types/types.js'
import { parseCertificate, splitCertificates, type TrustDomain } from '../../../spiffe/index.js'
import type {
  BundleRecord,
  JwtAuthorityRecord,
  X509AuthorityRecord,
} from '../../bundles/bundle-record.js'
import { SentryError } from '../../errors.js'
import { masked } from './mask.js'

const invalid = (message: string, options?: ErrorOptions) =>
  new SentryError('CS_REQUEST_INVALID', message, options)

export function bundleToWire(record: BundleRecord): Bundle {
  return {
    trustDomain: record.trustDomain,
    // Exactly one certificate per element: SPIRE's agents fail on what follows it.
    x509Authorities: record.x509Authorities.map(({ der }) => ({
      asn1: der,
      tainted: false,
    })),
    jwtAuthorities: record.jwtAuthorities.map(({ keyId, publicKeyInfo, expiresAt }) => ({
      keyId,
      publicKey: publicKeyInfo,
      expiresAt,
      tainted: false,
    })),
    refreshHint: record.refreshHint,
    sequenceNumber: record.sequence,
    witAuthorities: [],
  }
}

export function maskedBundle(record: BundleRecord, mask: BundleMask | undefined): Bundle {
  const defaults = Bundle.create()
  return masked(bundleToWire(record), { mask, defaults, always: ['trustDomain'] })
}

/** The fields that the mask names, or all, of a bundle as somebody sets it. Throws `CS_REQUEST_INVALID`. */
export function bundleFromWire(
  wire: Bundle,
  options: {
    readonly trustDomain: TrustDomain
    readonly held?: BundleRecord | undefined
    readonly mask?: BundleMask | undefined
  },
): BundleRecord {
  const { trustDomain, held, mask } = options
  const sets = (field: keyof BundleMask) => !mask || mask[field]
  return {
    trustDomain,
    x509Authorities: sets('x509Authorities')
      ? x509AuthoritiesFromWire(wire.x509Authorities)
      : (held?.x509Authorities ?? []),
    jwtAuthorities: sets('jwtAuthorities')
      ? jwtAuthoritiesFromWire(wire.jwtAuthorities)
      : (held?.jwtAuthorities ?? []),
    refreshHint: sets('refreshHint') ? hintFromWire(wire.refreshHint) : (held?.refreshHint ?? 0n),
    sequence: sets('sequenceNumber') ? wire.sequenceNumber : (held?.sequence ?? 0n),
  }
}

/** Throws `CS_REQUEST_INVALID`. */
export function x509AuthoritiesFromWire(wire: readonly X509Certificate[]): X509AuthorityRecord[] {
  try {
    return wire.flatMap(({ asn1 }) =>
      splitCertificates(asn1).map((der) => {
        parseCertificate(der)
        return { der: der.slice(), appended: true }
      }),
    )
  } catch (error) {
    throw invalid(`failed to convert X.509 authority: ${(error as Error).message}`, {
      cause: error,
    })
  }
}

/** Throws `CS_REQUEST_INVALID`. */
export function jwtAuthoritiesFromWire(wire: readonly JWTKey[]): JwtAuthorityRecord[] {
  return wire.map(({ keyId, publicKey, expiresAt }) => {
    if (keyId === '') throw invalid('failed to convert JWT authority: missing key ID')
    try {
      createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' })
    } catch (error) {
      throw invalid('failed to convert JWT authority: key is not a public key', { cause: error })
    }
    return { keyId, publicKeyInfo: publicKey.slice(), expiresAt, appended: true }
  })
}

function hintFromWire(refreshHint: bigint): bigint {
  if (refreshHint < 0n) throw invalid('refresh hint is negative')
  return refreshHint
}

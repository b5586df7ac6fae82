import { createPublicKey } from 'node:crypto'
import {
  parseCertificate,
  parseTrustDomain,
  SpiffeError,
  type TrustBundle,
  type TrustDomain,
} from '../../spiffe/index.js'
import type { TableSpec } from '../datastore/table.js'

export interface X509AuthorityRecord {
  readonly der: Uint8Array
  /** Added by an operator and not a root of our own, so it stays when those rotate. */
  readonly appended: boolean
}

export interface JwtAuthorityRecord {
  readonly keyId: string
  /** DER SubjectPublicKeyInfo. */
  readonly publicKeyInfo: Uint8Array
  /** Seconds since 1970; 0 for never. */
  readonly expiresAt: bigint
  readonly appended: boolean
}

/** A bundle as it is stored: our own, or that of a trust domain we federate with. */
export interface BundleRecord {
  readonly trustDomain: TrustDomain
  readonly x509Authorities: readonly X509AuthorityRecord[]
  readonly jwtAuthorities: readonly JwtAuthorityRecord[]
  /** Seconds; 0 for no hint. */
  readonly refreshHint: bigint
  readonly sequence: bigint
}

export const bundleTable: TableSpec<BundleRecord> = {
  kind: 'bundle',
  indexes: [],
  keyOf: ({ trustDomain }) => trustDomain,
  termsOf: () => [],
  encode: (record) =>
    JSON.stringify({
      trustDomain: record.trustDomain,
      x509Authorities: record.x509Authorities.map(({ der, appended }) => ({
        der: base64(der),
        appended,
      })),
      jwtAuthorities: record.jwtAuthorities.map((authority) => ({
        ...authority,
        publicKeyInfo: base64(authority.publicKeyInfo),
        expiresAt: String(authority.expiresAt),
      })),
      refreshHint: String(record.refreshHint),
      sequence: String(record.sequence),
    }),
  decode(payload) {
    const stored = JSON.parse(payload) as StoredBundle
    return {
      trustDomain: parseTrustDomain(stored.trustDomain),
      x509Authorities: stored.x509Authorities.map(({ der, appended }) => ({
        der: Buffer.from(der, 'base64'),
        appended,
      })),
      jwtAuthorities: stored.jwtAuthorities.map((authority) => ({
        ...authority,
        publicKeyInfo: Buffer.from(authority.publicKeyInfo, 'base64'),
        expiresAt: BigInt(authority.expiresAt),
      })),
      refreshHint: BigInt(stored.refreshHint),
      sequence: BigInt(stored.sequence),
    }
  },
}

/** What verifiers use of a record. Throws `CS_BUNDLE_INVALID`, `CS_CERTIFICATE_MALFORMED`. */
export function trustBundleOf(record: BundleRecord): TrustBundle {
  return {
    trustDomain: record.trustDomain,
    x509Authorities: record.x509Authorities.map(({ der }) => parseCertificate(der)),
    jwtAuthorities: new Map(
      record.jwtAuthorities.map(({ keyId, publicKeyInfo }) => [
        keyId,
        { keyId, publicKey: importKey(keyId, publicKeyInfo) },
      ]),
    ),
    sequence: record.sequence,
    ...(record.refreshHint > 0n && { refreshHint: Number(record.refreshHint) }),
  }
}

function importKey(keyId: string, publicKeyInfo: Uint8Array) {
  try {
    return createPublicKey({ key: Buffer.from(publicKeyInfo), format: 'der', type: 'spki' })
  } catch (error) {
    throw new SpiffeError('CS_BUNDLE_INVALID', `JWT authority "${keyId}" is not a public key`, {
      cause: error,
    })
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}

interface StoredBundle {
  readonly trustDomain: string
  readonly x509Authorities: readonly { readonly der: string; readonly appended: boolean }[]
  readonly jwtAuthorities: readonly {
    readonly keyId: string
    readonly publicKeyInfo: string
    readonly expiresAt: string
    readonly appended: boolean
  }[]
  readonly refreshHint: string
  readonly sequence: string
}

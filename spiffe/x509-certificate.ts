import type { KeyObject } from 'node:crypto'

/** One name constraint subtree that this library judges: the host part of a URI, or a DNS name. */
export interface NameConstraints {
  readonly permittedUris: readonly string[]
  readonly excludedUris: readonly string[]
  readonly permittedDns: readonly string[]
  readonly excludedDns: readonly string[]
  /** A subtree of another kind is present; a critical extension with one cannot be honoured. */
  readonly others: boolean
}

/** What an X.509 certificate says (RFC 5280 §4), read once and strictly. Times are milliseconds since 1970. */
export interface Certificate {
  readonly der: Uint8Array
  /** Lower-case hex without leading zeros. */
  readonly serialNumber: string
  /** Such as `ECDSA-SHA256`; a dotted object identifier if it has no name here, and then it is not allowed. */
  readonly signatureAlgorithm: string
  /** The signed part and the signature, as they stand in `der`. */
  readonly tbs: Uint8Array
  readonly signature: Uint8Array
  /** DER of the names, compared byte by byte. */
  readonly issuer: Uint8Array
  readonly subject: Uint8Array
  readonly notBefore: number
  readonly notAfter: number
  /** DER SubjectPublicKeyInfo. */
  readonly publicKeyInfo: Uint8Array
  /** Imported on first use. Throws `CS_CERTIFICATE_MALFORMED` for a key that cannot be read. */
  readonly publicKey: KeyObject
  /** `undefined` without a basic constraints extension. */
  readonly basicConstraints:
    | { readonly ca: boolean; readonly pathLength: number | undefined }
    | undefined
  /** Bit n is bit n of RFC 5280 §4.2.1.3 (0 digitalSignature, 5 keyCertSign, 6 cRLSign). `undefined` without the extension. */
  readonly keyUsage: number | undefined
  /** Dotted object identifiers. `undefined` without the extension. */
  readonly extendedKeyUsage: readonly string[] | undefined
  readonly uriNames: readonly string[]
  readonly dnsNames: readonly string[]
  /** Raw bytes of IP names: 4 or 16 each. */
  readonly ipNames: readonly Uint8Array[]
  readonly subjectAltNameCritical: boolean
  /** Lower-case hex. */
  readonly subjectKeyId: string | undefined
  readonly authorityKeyId: string | undefined
  readonly nameConstraints: NameConstraints | undefined
  /** Dotted identifiers of all critical extensions, understood or not. */
  readonly criticalExtensions: readonly string[]
  /** Dotted identifiers of critical extensions that the parser does not understand. */
  readonly unknownCritical: readonly string[]
  /** SHA-256 of `der`, lower-case hex. Computed on first use. */
  readonly fingerprint: string
}

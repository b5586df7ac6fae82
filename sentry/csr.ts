import { generateKeyPairSync, type KeyObject, verify } from 'node:crypto'
import {
  bytesOf,
  contextTag,
  type DerElement,
  nullValue,
  oid,
  readBitStringOctets,
  readElement,
  sequence,
  sequenceItems,
  tags,
} from '../spiffe/asn1/index.js'
import { SpiffeError } from '../spiffe/index.js'
import { SentryError } from './errors.js'
import {
  type AllowedKey,
  jwkOf,
  type KeyKind,
  keyIdentifier,
  readAllowedKey,
} from './public-key.js'

declare const proven: unique symbol

/**
 * A public key whose private half signed the request. Made only by {@link proveKeyPossession} and by
 * {@link makeProvenKey}, which makes both halves itself.
 */
export interface ProvenKey {
  readonly [proven]: true
  readonly kind: KeyKind
  /** DER SubjectPublicKeyInfo. */
  readonly publicKeyInfo: Uint8Array
  /** What the certificate names as its subject key identifier. */
  readonly keyId: Uint8Array
}

/** A request with an RSA key of 4096 bits and a hundred names has about 6 kB. */
const MAX_CSR_BYTES = 16 * 1024

const VERSION_1 = 0

/** DER of the signature algorithms a request may be signed with, as latin1 text, and what they verify. */
const signatureAlgorithms: ReadonlyMap<string, { family: string; digest: string | null }> = new Map(
  [
    { family: 'ec', digest: 'sha256', der: sequence(oid('1.2.840.10045.4.3.2')) },
    { family: 'ec', digest: 'sha384', der: sequence(oid('1.2.840.10045.4.3.3')) },
    { family: 'ec', digest: 'sha512', der: sequence(oid('1.2.840.10045.4.3.4')) },
    { family: 'rsa', digest: 'sha256', der: sequence(oid('1.2.840.113549.1.1.11'), nullValue()) },
    { family: 'rsa', digest: 'sha384', der: sequence(oid('1.2.840.113549.1.1.12'), nullValue()) },
    { family: 'rsa', digest: 'sha512', der: sequence(oid('1.2.840.113549.1.1.13'), nullValue()) },
    { family: 'ed25519', digest: null, der: sequence(oid('1.3.101.112')) },
  ].map(({ der, ...algorithm }) => [latin1(der), algorithm]),
)

const malformed = (message: string, options?: ErrorOptions) =>
  new SentryError('CS_CSR_MALFORMED', message, options)
const notProven = (message: string, options?: ErrorOptions) =>
  new SentryError('CS_CSR_KEY_NOT_PROVEN', message, options)

/**
 * Takes the key out of a PKCS#10 request. The names, usages and extensions it asks for are dropped:
 * what a workload is called comes from its registration entry, never from the workload. Throws
 * `CS_CSR_MALFORMED`, `CS_CSR_KEY_NOT_ALLOWED`, `CS_CSR_KEY_NOT_PROVEN`.
 */
export function proveKeyPossession(csrDer: Uint8Array): ProvenKey {
  const request = readRequest(csrDer)
  assertSigned(request)
  const { kind, publicKeyInfo, keyBits } = request.key
  // A copy, so that the request's buffer is neither kept alive nor able to change the key.
  return asProven({
    kind,
    publicKeyInfo: Buffer.from(publicKeyInfo),
    keyId: keyIdentifier(keyBits),
  })
}

/** A fresh P-256 key of the sentry's own. */
export function makeProvenKey(): { readonly key: ProvenKey; readonly privateKey: KeyObject } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const info = new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }))
  const { kind, publicKeyInfo, keyBits } = readAllowedKey(info)
  return { key: asProven({ kind, publicKeyInfo, keyId: keyIdentifier(keyBits) }), privateKey }
}

interface CertificateRequest {
  /** The bytes that are signed: CertificationRequestInfo. */
  readonly info: Uint8Array
  readonly key: AllowedKey
  /** DER AlgorithmIdentifier as latin1 text. */
  readonly algorithm: string
  readonly signature: Uint8Array
}

function readRequest(der: Uint8Array): CertificateRequest {
  if (der.length > MAX_CSR_BYTES) throw malformed(`request is longer than ${MAX_CSR_BYTES} bytes`)
  try {
    const [info, algorithm, signature, ...rest] = sequenceItems(readElement(der))
    if (info === undefined || algorithm === undefined || rest.length > 0) {
      throw malformed('request does not have exactly three parts')
    }
    return {
      info: bytesOf(info),
      key: readAllowedKey(publicKeyInfoIn(info)),
      algorithm: latin1(bytesOf(algorithm)),
      signature: readBitStringOctets(signature),
    }
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    throw malformed(`request is not DER: ${error.message}`, { cause: error })
  }
}

/** RFC 2986 §4.1. The subject and the attributes are not looked into: nothing of them is used. */
function publicKeyInfoIn(info: DerElement): Uint8Array {
  const [version, subject, publicKeyInfo, attributes, ...rest] = sequenceItems(info)
  const readable =
    version?.tag === tags.integer &&
    version.end - version.contentStart === 1 &&
    version.source[version.contentStart] === VERSION_1 &&
    subject?.tag === tags.sequence &&
    (attributes === undefined || attributes.tag === contextTag(0)) &&
    rest.length === 0
  if (!readable || publicKeyInfo === undefined) {
    throw malformed('request is not version 1 of subject, key and attributes')
  }
  return bytesOf(publicKeyInfo)
}

function assertSigned({ info, key, algorithm, signature }: CertificateRequest): void {
  const used = signatureAlgorithms.get(algorithm)
  if (used === undefined || !key.kind.startsWith(used.family)) {
    throw notProven('request is signed with an algorithm that is not allowed or not of its key')
  }
  if (!isSigned({ digest: used.digest, info, key, signature })) {
    throw notProven('request is not signed by the key it carries')
  }
}

/** Given as it is, the key is imported for this one use; a `KeyObject` would cost 13 µs more. */
function isSigned(request: {
  readonly digest: string | null
  readonly info: Uint8Array
  readonly key: AllowedKey
  readonly signature: Uint8Array
}): boolean {
  const { digest, info, key, signature } = request
  try {
    return verify(digest, info, { key: jwkOf(key), format: 'jwk' }, signature)
  } catch (error) {
    throw new SentryError('CS_CSR_KEY_NOT_ALLOWED', 'key is not a point on its curve', {
      cause: error,
    })
  }
}

function asProven(key: Omit<ProvenKey, typeof proven>): ProvenKey {
  return key as ProvenKey
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
}

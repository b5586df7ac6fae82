import { hash, type JsonWebKey } from 'node:crypto'
import {
  contentOf,
  type DerElement,
  nullValue,
  oid,
  readElement,
  readUnsigned,
  sequence,
  sequenceItems,
  tags,
  tlv,
} from '../spiffe/asn1/index.js'
import { SentryError } from './errors.js'

export type KeyKind = 'ec-p256' | 'ec-p384' | 'ec-p521' | 'rsa' | 'ed25519'

/** A public key that may get a certificate, out of a SubjectPublicKeyInfo. */
export interface AllowedKey {
  readonly kind: KeyKind
  /** DER SubjectPublicKeyInfo, exactly as it was given. */
  readonly publicKeyInfo: Uint8Array
  /** What the BIT STRING holds, from which key identifiers are made. */
  readonly keyBits: Uint8Array
}

/**
 * Everything of a SubjectPublicKeyInfo before the key itself. There is one DER spelling of each, so
 * comparing bytes is the whole check, and a compressed point or odd parameters do not pass.
 */
interface FixedForm {
  readonly kind: KeyKind
  readonly prefix: Uint8Array
  /** Of the key bits that follow the prefix. */
  readonly length: number
  readonly jwk: { readonly kty: string; readonly crv: string }
}

const EC_PUBLIC_KEY = '1.2.840.10045.2.1'
const RSA_ENCRYPTION = '1.2.840.113549.1.1.1'
const ED25519 = '1.3.101.112'
const UNCOMPRESSED = 0x04

const MIN_RSA_BITS = 2048
const MAX_RSA_BITS = 4096
const MIN_RSA_EXPONENT = 65_537n
/** OpenSSL verifies with no longer exponent under a large modulus. */
const MAX_RSA_EXPONENT_OCTETS = 8

const KEY_ID_OCTETS = 20

const fixedForms: readonly FixedForm[] = [
  ecForm({ kind: 'ec-p256', curve: '1.2.840.10045.3.1.7', crv: 'P-256', coordinate: 32 }),
  ecForm({ kind: 'ec-p384', curve: '1.3.132.0.34', crv: 'P-384', coordinate: 48 }),
  ecForm({ kind: 'ec-p521', curve: '1.3.132.0.35', crv: 'P-521', coordinate: 66 }),
  {
    kind: 'ed25519',
    prefix: prefixBefore(new Uint8Array(32), sequence(oid(ED25519))),
    length: 32,
    jwk: { kty: 'OKP', crv: 'Ed25519' },
  },
]

const rsaAlgorithm = Buffer.from(sequence(oid(RSA_ENCRYPTION), nullValue()))

const notAllowed = (message: string) => new SentryError('CS_CSR_KEY_NOT_ALLOWED', message)

/** Holds a key to the policy. Throws `CS_CSR_KEY_NOT_ALLOWED`, or `CS_DER_MALFORMED` for no DER at all. */
export function readAllowedKey(publicKeyInfo: Uint8Array): AllowedKey {
  const form = fixedForms.find((candidate) => hasForm(publicKeyInfo, candidate))
  if (form !== undefined) {
    return { kind: form.kind, publicKeyInfo, keyBits: keyBitsIn(publicKeyInfo, form) }
  }
  const [algorithm, key, ...rest] = sequenceItems(readElement(publicKeyInfo))
  if (algorithm === undefined || key === undefined || rest.length > 0 || !isRsa(algorithm)) {
    throw notAllowed('key is none of EC P-256, P-384 or P-521 (uncompressed), RSA and Ed25519')
  }
  const keyBits = wholeOctets(key)
  assertRsaKey(keyBits)
  return { kind: 'rsa', publicKeyInfo, keyBits }
}

/** The same key as a JWK, which Node 20 imports 1.7 times as fast as a SubjectPublicKeyInfo. */
export function jwkOf({ kind, publicKeyInfo, keyBits }: AllowedKey): JsonWebKey {
  const form = fixedForms.find((candidate) => candidate.kind === kind)
  if (form === undefined) return rsaJwk(keyBits)
  const bytes = Buffer.from(publicKeyInfo.buffer, publicKeyInfo.byteOffset, publicKeyInfo.length)
  const start = form.prefix.length
  if (kind === 'ed25519') return { ...form.jwk, x: bytes.toString('base64url', start) }
  const middle = start + form.length / 2
  return {
    ...form.jwk,
    x: bytes.toString('base64url', start, middle),
    y: bytes.toString('base64url', middle),
  }
}

/** RFC 7093 §2 (1): the first 160 bits of the SHA-256 of the key bits. */
export function keyIdentifier(keyBits: Uint8Array): Uint8Array {
  return hash('sha256', keyBits, 'buffer').subarray(0, KEY_ID_OCTETS)
}

function ecForm(curve: {
  readonly kind: KeyKind
  readonly curve: string
  readonly crv: string
  readonly coordinate: number
}): FixedForm {
  const length = 2 * curve.coordinate
  const algorithm = sequence(oid(EC_PUBLIC_KEY), oid(curve.curve))
  const prefix = prefixBefore(new Uint8Array(length), algorithm, UNCOMPRESSED)
  return { kind: curve.kind, prefix, length, jwk: { kty: 'EC', crv: curve.crv } }
}

function prefixBefore(key: Uint8Array, algorithm: Uint8Array, ...marks: number[]): Uint8Array {
  const info = sequence(algorithm, tlv(tags.bitString, Uint8Array.of(0, ...marks), key))
  return info.subarray(0, info.length - key.length)
}

function hasForm(info: Uint8Array, { prefix, length }: FixedForm): boolean {
  if (info.length !== prefix.length + length) return false
  for (let index = 0; index < prefix.length; index += 1) {
    if (info[index] !== prefix[index]) return false
  }
  return true
}

/** An EC point counts with the octet before its coordinates. */
function keyBitsIn(info: Uint8Array, { kind, prefix }: FixedForm): Uint8Array {
  return info.subarray(kind === 'ed25519' ? prefix.length : prefix.length - 1)
}

function isRsa(algorithm: DerElement): boolean {
  return rsaAlgorithm.equals(algorithm.source.subarray(algorithm.start, algorithm.end))
}

function wholeOctets(key: DerElement): Uint8Array {
  const content = contentOf(key)
  if (key.tag !== tags.bitString || content[0] !== 0) throw notAllowed('key is not whole octets')
  return content.subarray(1)
}

function assertRsaKey(keyBits: Uint8Array): void {
  const { modulus, exponent } = rsaNumbers(keyBits)
  const bits = modulus.length * 8 - (Math.clz32(modulus[0] ?? 0) - 24)
  if (bits < MIN_RSA_BITS || bits > MAX_RSA_BITS) {
    throw notAllowed(`RSA key has ${bits} bits, not ${MIN_RSA_BITS} to ${MAX_RSA_BITS}`)
  }
  if (!isOdd(modulus)) throw notAllowed('RSA modulus is even')
  if (exponent.length > MAX_RSA_EXPONENT_OCTETS || !isOdd(exponent)) {
    throw notAllowed('RSA exponent is even or longer than 64 bits')
  }
  if (BigInt(`0x${Buffer.from(exponent).toString('hex')}`) < MIN_RSA_EXPONENT) {
    throw notAllowed(`RSA exponent is smaller than ${MIN_RSA_EXPONENT}`)
  }
}

function rsaJwk(keyBits: Uint8Array): JsonWebKey {
  const { modulus, exponent } = rsaNumbers(keyBits)
  const base64url = (octets: Uint8Array) => Buffer.from(octets).toString('base64url')
  return { kty: 'RSA', n: base64url(modulus), e: base64url(exponent) }
}

function rsaNumbers(keyBits: Uint8Array) {
  const [modulus, exponent, ...rest] = sequenceItems(readElement(keyBits))
  if (rest.length > 0) throw notAllowed('RSA key holds more than a modulus and an exponent')
  return { modulus: readUnsigned(modulus), exponent: readUnsigned(exponent) }
}

function isOdd(octets: Uint8Array): boolean {
  return ((octets.at(-1) ?? 0) & 1) === 1
}

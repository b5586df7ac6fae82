import { createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto'
import {
  readBitStringOctets,
  readElement,
  readOid,
  readUnsigned,
  sequenceItems,
  tags,
} from './asn1/index.js'

/** What a SubjectPublicKeyInfo holds, as far as this library signs or verifies with it. */
export type PublicKeyShape =
  | { readonly kind: 'ec'; readonly curve: EcCurve; readonly point: Uint8Array }
  | { readonly kind: 'rsa'; readonly modulus: Uint8Array; readonly exponent: Uint8Array }
  | { readonly kind: 'ed25519'; readonly point: Uint8Array }
  | { readonly kind: 'other'; readonly algorithm: string }

type RsaShape = Extract<PublicKeyShape, { kind: 'rsa' }>

export type EcCurve = 'P-256' | 'P-384' | 'P-521'

const EC_PUBLIC_KEY = '1.2.840.10045.2.1'
const RSA_ENCRYPTION = '1.2.840.113549.1.1.1'
const ED25519 = '1.3.101.112'

const curves: Readonly<Record<string, EcCurve>> = {
  '1.2.840.10045.3.1.7': 'P-256',
  '1.3.132.0.34': 'P-384',
  '1.3.132.0.35': 'P-521',
}

export const coordinateLengths: Readonly<Record<EcCurve, number>> = {
  'P-256': 32,
  'P-384': 48,
  'P-521': 66,
}

const ED25519_LENGTH = 32
const MIN_RSA_BITS = 2048
/** A key above this costs a verifier more than any signature is worth. */
const MAX_RSA_BITS = 8192
/** 65537 has three octets. A check of a signature takes as long as the exponent is, and its owner chooses it. */
const MAX_RSA_EXPONENT_OCTETS = 4

/** Takes a DER SubjectPublicKeyInfo apart. Throws `CS_DER_MALFORMED`. */
export function shapeOfKey(publicKeyInfo: Uint8Array): PublicKeyShape {
  const [algorithm, key, ...others] = sequenceItems(readElement(publicKeyInfo))
  const [identifier, parameters] = sequenceItems(algorithm)
  const name = readOid(identifier)
  const octets = readBitStringOctets(key)
  if (others.length > 0) return { kind: 'other', algorithm: name }
  if (name === EC_PUBLIC_KEY && parameters?.tag === tags.oid) {
    const curve = curves[readOid(parameters)]
    if (curve !== undefined) return { kind: 'ec', curve, point: octets }
  }
  if (name === RSA_ENCRYPTION) {
    const [modulus, exponent, ...rest] = sequenceItems(readElement(octets))
    if (rest.length > 0) return { kind: 'other', algorithm: name }
    return { kind: 'rsa', modulus: readUnsigned(modulus), exponent: readUnsigned(exponent) }
  }
  if (name === ED25519 && parameters === undefined) return { kind: 'ed25519', point: octets }
  return { kind: 'other', algorithm: name }
}

/** Why no signature by this key may count, or `undefined` if one may. */
export function keyWeakness(key: PublicKeyShape): string | undefined {
  switch (key.kind) {
    case 'ec':
    case 'ed25519':
      return undefined
    case 'rsa':
      return rsaWeakness(key)
    case 'other':
      return `key algorithm ${key.algorithm} is not allowed`
  }
}

export function bitLength(modulus: Uint8Array): number {
  return modulus.length * 8 - Math.clz32(modulus[0] ?? 0) + 24
}

/** The public members of the key's JWK; `undefined` for a key this library does not use. */
export function jwkOfKey(key: PublicKeyShape): JsonWebKey | undefined {
  switch (key.kind) {
    case 'ec':
      return jwkOfPoint(key)
    case 'rsa':
      return { kty: 'RSA', n: base64url(key.modulus), e: base64url(key.exponent) }
    case 'ed25519':
      if (key.point.length !== ED25519_LENGTH) return undefined
      return { kty: 'OKP', crv: 'Ed25519', x: base64url(key.point) }
    case 'other':
      return undefined
  }
}

/** Imports the key. OpenSSL refuses a point that is not on its curve. */
export function importKey(publicKeyInfo: Uint8Array): KeyObject {
  const jwk = jwkOfKey(shapeOfKey(publicKeyInfo))
  // On Node 20 a JWK takes two thirds of the time of SubjectPublicKeyInfo.
  if (jwk !== undefined) return createPublicKey({ key: jwk, format: 'jwk' })
  return createPublicKey({ key: Buffer.from(publicKeyInfo), format: 'der', type: 'spki' })
}

function rsaWeakness({ modulus, exponent }: RsaShape): string | undefined {
  const bits = bitLength(modulus)
  if (bits < MIN_RSA_BITS) return `RSA key has ${bits} bits, fewer than ${MIN_RSA_BITS}`
  if (bits > MAX_RSA_BITS) return `RSA key has ${bits} bits, more than ${MAX_RSA_BITS}`
  const isOdd = ((exponent.at(-1) ?? 0) & 1) === 1
  const isOne = exponent.length === 1 && exponent[0] === 1
  if (!isOdd || isOne || exponent.length > MAX_RSA_EXPONENT_OCTETS) {
    return 'RSA key has an exponent that is not odd and between 3 and 2^32'
  }
  return undefined
}

/** Only the uncompressed form is cut in two; a compressed point is left to OpenSSL. */
function jwkOfPoint({
  curve,
  point,
}: {
  curve: EcCurve
  point: Uint8Array
}): JsonWebKey | undefined {
  const length = coordinateLengths[curve]
  if (point[0] !== 4 || point.length !== 1 + 2 * length) return undefined
  const x = base64url(point.subarray(1, 1 + length))
  return { kty: 'EC', crv: curve, x, y: base64url(point.subarray(1 + length)) }
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64url')
}

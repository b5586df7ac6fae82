import { createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto'
import { decodeBase64, decodeBase64url } from './base64.js'
import { SpiffeError } from './errors.js'
import { coordinateLengths, type EcCurve, jwkOfKey, keyWeakness, shapeOfKey } from './public-key.js'
import type { JsonObject, JsonValue } from './strict-json.js'
import type { Certificate } from './x509-certificate.js'
import { parseCertificate } from './x509-parse.js'

/** One entry of `keys`: an authority, or the reason why it is passed over. */
export type Entry<Authority> =
  | { readonly kind: 'used'; readonly authority: Authority }
  | { readonly kind: 'ignored'; readonly reason: string }

const invalid = (message: string, options?: ErrorOptions) =>
  new SpiffeError('CS_BUNDLE_INVALID', message, options)

const ignored = (reason: string) => ({ kind: 'ignored', reason }) as const

/** Key types whose certificates can be anchors. */
const certificateKeyTypes: readonly JsonValue[] = ['EC', 'RSA', 'OKP']

/** Reads an `x509-svid` entry (X509-SVID §6.2). Throws `CS_BUNDLE_INVALID` if what it holds is damaged. */
export function readX509Entry(jwk: JsonObject): Entry<Certificate> {
  if (!certificateKeyTypes.includes(jwk['kty'] ?? null)) return ignored('its kty is unknown')
  if (jwk['d'] !== undefined) return ignored('it holds a private key')
  const { x5c } = jwk
  const [first] = Array.isArray(x5c) ? (x5c as readonly JsonValue[]) : []
  if (first === undefined) return ignored('it has no x5c')
  const certificate = certificateOf(first)
  assertSameKey(jwk, certificate)
  return { kind: 'used', authority: certificate }
}

/** Reads the key of a `jwt-svid` entry. Throws `CS_BUNDLE_INVALID` if what it holds is damaged. */
export function readJwtKey(jwk: JsonObject): Entry<KeyObject> {
  const { kty, crv } = jwk
  if (jwk['d'] !== undefined) return ignored('it holds a private key')
  if (kty === 'EC') {
    const length = typeof crv === 'string' ? lengthOfCurve(crv) : undefined
    if (length === undefined) return ignored('its curve is unknown')
    const parts = { x: numberIn(jwk, 'x', length), y: numberIn(jwk, 'y', length) }
    return { kind: 'used', authority: importJwk({ kty, crv: crv as string, ...parts }) }
  }
  if (kty !== 'RSA') return ignored('its kty is unknown')
  const key = importJwk({ kty, n: numberIn(jwk, 'n'), e: numberIn(jwk, 'e') })
  const weakness = keyWeakness(shapeOfKey(key.export({ type: 'spki', format: 'der' })))
  return weakness === undefined ? { kind: 'used', authority: key } : ignored(weakness)
}

/** The public members of a key as a bundle publishes them. Throws `CS_BUNDLE_INVALID`. */
export function publicJwk(key: KeyObject): JsonWebKey {
  try {
    return key.export({ format: 'jwk' })
  } catch (error) {
    throw invalid('key cannot be published as a JWK', { cause: error })
  }
}

function certificateOf(x5c: JsonValue): Certificate {
  const der = typeof x5c === 'string' ? decodeBase64(x5c) : undefined
  if (der === undefined) throw invalid('an x5c is not base64')
  try {
    return parseCertificate(der)
  } catch (error) {
    throw invalid(`an x5c is not a certificate: ${(error as Error).message}`, { cause: error })
  }
}

/** RFC 7517 §4.7: the key members and the certificate are the same key. */
function assertSameKey(jwk: JsonObject, certificate: Certificate): void {
  const expected: Readonly<Record<string, unknown>> = jwkOfCertificate(certificate) ?? {}
  for (const [name, value] of Object.entries(expected)) {
    if (jwk[name] !== undefined && jwk[name] !== value) {
      throw invalid(`member ${name} of a key is not that of its certificate`)
    }
  }
}

function jwkOfCertificate({ publicKeyInfo }: Certificate): JsonWebKey | undefined {
  try {
    return jwkOfKey(shapeOfKey(publicKeyInfo))
  } catch (error) {
    throw invalid('the key in an x5c cannot be read', { cause: error })
  }
}

function lengthOfCurve(crv: string): number | undefined {
  return Object.hasOwn(coordinateLengths, crv) ? coordinateLengths[crv as EcCurve] : undefined
}

function numberIn(jwk: JsonObject, name: string, length?: number): string {
  const text = jwk[name]
  const bytes = typeof text === 'string' ? decodeBase64url(text) : undefined
  if (typeof text !== 'string' || bytes === undefined || bytes.length === 0) {
    throw invalid(`member ${name} of a key is not base64url`)
  }
  if (length !== undefined && bytes.length !== length) {
    throw invalid(`member ${name} of a key has ${bytes.length} bytes, not ${length}`)
  }
  return text
}

function importJwk(key: JsonWebKey): KeyObject {
  try {
    return createPublicKey({ key, format: 'jwk' })
  } catch (error) {
    throw invalid('a key is not one of its curve or kind', { cause: error })
  }
}

import { type BundleSource, bundleOf, type JwtAuthority, type TrustBundle } from './bundle.js'
import { SpiffeError } from './errors.js'
import { parseWorkloadId, type SpiffeId, trustDomainOf } from './id.js'
import { isJwtAlgorithm, keyFits, verifyJwtSignature } from './jwt-algorithms.js'
import { readClaims } from './jwt-claims.js'
import { type CompactJws, decodePart, readPart, splitCompactJws } from './jwt-decode.js'
import type { JsonObject } from './strict-json.js'

/** A token that was verified for an audience. Times are milliseconds since 1970. */
export interface JwtSvid {
  readonly id: SpiffeId
  readonly audience: readonly string[]
  readonly expiresAt: number
  readonly issuedAt?: number
  readonly algorithm: string
  readonly keyId?: string
  readonly claims: Readonly<Record<string, unknown>>
  readonly token: string
}

export interface JwtVerification {
  readonly token: string
  readonly bundles: BundleSource
  /** What the verifier answers to. One of them has to be in the token. */
  readonly audience: string | readonly string[]
  readonly now: Date
  /** For clocks that differ: 10 unless given, 300 at most. */
  readonly leewaySeconds?: number
}

/** Keys tried for a token that names none. */
const MAX_KEYS_TRIED = 16

const invalid = (message: string, options?: ErrorOptions) =>
  new SpiffeError('CS_JWT_SVID_INVALID', message, options)

/**
 * Verifies a JWT-SVID (JWT-SVID §4) in the order that gives a forger the least to work with: the algorithm
 * before anything else, the signature before any claim but `sub` is looked at. No message repeats the token.
 * Throws `CS_JWT_SVID_INVALID`, `CS_JWT_ALG_NOT_ALLOWED`, `CS_BUNDLE_NOT_FOUND`, `CS_JWT_KEY_UNKNOWN`,
 * `CS_JWT_AUDIENCE_MISMATCH` or `CS_JWT_EXPIRED`.
 */
export function verifyJwtSvid(options: JwtVerification): JwtSvid {
  const { token } = options
  const parts = splitCompactJws(token)
  const { algorithm, keyId } = readHeader(parts.header)
  const claims = readPart(parts.payload, 'payload')
  const id = subjectOf(claims)
  const bundle = bundleOf(options.bundles, trustDomainOf(id))
  assertSigned(parts, { algorithm, keys: keysFor(bundle, { algorithm, keyId }) })
  const { audience, expiresAt, issuedAt } = readClaims(claims, options)
  return {
    id,
    audience,
    expiresAt,
    ...(issuedAt !== undefined && { issuedAt }),
    algorithm,
    ...(keyId !== undefined && { keyId }),
    claims,
    token,
  }
}

interface KeyChoice {
  readonly algorithm: string
  readonly keyId: string | undefined
}

const types: readonly unknown[] = [undefined, 'JWT', 'JOSE']

/** Members that name a key, such as `jwk` and `x5c`, are never looked at: keys come from bundles. */
function readHeader(part: string): KeyChoice {
  const header = readPart(part, 'header')
  const { alg, cty, kid, typ } = header
  if (!isJwtAlgorithm(alg)) {
    throw new SpiffeError('CS_JWT_ALG_NOT_ALLOWED', 'token has no algorithm that JWT-SVIDs may use')
  }
  if (!types.includes(typ)) throw invalid('type of the token is neither JWT nor JOSE')
  if (header['crit'] !== undefined) throw invalid('token has critical headers')
  if (header['b64'] === false) throw invalid('payload of the token is not encoded')
  if (typeof cty === 'string' && cty.toLowerCase() === 'jwt')
    throw invalid('token holds another token')
  if (kid !== undefined && typeof kid !== 'string')
    throw invalid('kid of the token is not a string')
  return { algorithm: alg, keyId: kid }
}

function subjectOf({ sub }: JsonObject): SpiffeId {
  if (typeof sub !== 'string') throw invalid('token has no subject')
  try {
    return parseWorkloadId(sub)
  } catch (error) {
    throw invalid(`subject of the token is not a SPIFFE ID: ${(error as Error).message}`, {
      cause: error,
    })
  }
}

function keysFor(bundle: TrustBundle, { algorithm, keyId }: KeyChoice): readonly JwtAuthority[] {
  if (keyId !== undefined) {
    const authority = bundle.jwtAuthorities.get(keyId)
    if (authority === undefined) throw keyUnknown(`bundle of ${bundle.trustDomain} has no such kid`)
    if (!keyFits(authority.publicKey, algorithm))
      throw invalid('key of the token is not for its algorithm')
    return [authority]
  }
  const fitting = [...bundle.jwtAuthorities.values()].filter(({ publicKey }) =>
    keyFits(publicKey, algorithm),
  )
  if (fitting.length === 0)
    throw keyUnknown(`bundle of ${bundle.trustDomain} has no key for ${algorithm}`)
  return fitting.slice(0, MAX_KEYS_TRIED)
}

function assertSigned(
  { header, payload, signature: encoded }: CompactJws,
  { algorithm, keys }: { readonly algorithm: string; readonly keys: readonly JwtAuthority[] },
): void {
  const data = Buffer.from(`${header}.${payload}`, 'latin1')
  const signature = decodePart(encoded, 'signature')
  const signed = keys.some(({ publicKey: key }) =>
    verifyJwtSignature({ algorithm, key, data, signature }),
  )
  if (!signed) throw invalid('signature of the token does not verify')
}

function keyUnknown(message: string): SpiffeError {
  return new SpiffeError('CS_JWT_KEY_UNKNOWN', message)
}

import {
  decodeJwt,
  parseWorkloadId,
  readJwtKeySet,
  type SpiffeId,
  type TrustBundle,
  type TrustDomain,
} from '../index.js'
import { numericDateIn } from '../jwt-claims.js'
import type {
  JWTBundlesResponse,
  JWTSVID,
  JWTSVIDResponse,
  ValidateJWTSVIDResponse,
} from './gen/workload.js'
import {
  assertPresent,
  atPlace,
  hintIn,
  invalidResponse,
  trustDomainOfKey,
} from './response-checks.js'

/** A token of one's own, to be sent to somebody who will verify it. Times are milliseconds since 1970. */
export interface OwnJwtSvid {
  readonly id: SpiffeId
  readonly token: string
  readonly audience: readonly string[]
  readonly issuedAt: number | undefined
  readonly expiresAt: number
  readonly hint?: string
}

/** What the endpoint found in a token that it validated. */
export interface ValidatedJwt {
  readonly id: SpiffeId
  readonly claims: Readonly<Record<string, unknown>>
}

/** For JWT-SVIDs only: these bundles hold no X.509 authority. */
export type JwtBundles = ReadonlyMap<TrustDomain, TrustBundle>

export interface ExpectedTokens {
  readonly audience: readonly string[]
  readonly id: SpiffeId | undefined
}

/** Reads the tokens of FetchJWTSVID, the default identity first. Throws `CS_RESPONSE_INVALID`. */
export function readJwtSvids(
  message: JWTSVIDResponse,
  expected: ExpectedTokens,
): readonly [OwnJwtSvid, ...OwnJwtSvid[]] {
  const [first, ...others] = message.svids.map((entry, index) =>
    atPlace(`svid ${index}`, () => readJwtSvid(entry, expected)),
  )
  if (!first) throw invalidResponse('response holds no svid')
  return [first, ...others]
}

/** Reads the whole map of FetchJWTBundles. Unchanged bundles are the same objects again. Throws `CS_RESPONSE_INVALID`. */
export function readJwtBundles(
  message: JWTBundlesResponse,
  previous: JwtBundles | undefined,
): JwtBundles {
  if (message.bundles.size === 0) throw invalidResponse('response holds no bundle')
  const bundles = new Map<TrustDomain, TrustBundle>()
  for (const [key, jwks] of message.bundles) {
    const trustDomain = trustDomainOfKey(key)
    const before = previous?.get(trustDomain)
    const jwtAuthorities = atPlace(`bundle of ${key}`, () => readJwtKeySet(jwks))
    const bundle: TrustBundle = { trustDomain, x509Authorities: [], jwtAuthorities }
    bundles.set(trustDomain, before && hasSameKeys(bundle, before) ? before : bundle)
  }
  return previous && isSameMap(bundles, previous) ? previous : bundles
}

/** Reads the answer of ValidateJWTSVID. Throws `CS_RESPONSE_INVALID`. */
export function readValidation({ spiffeId, claims }: ValidateJWTSVIDResponse): ValidatedJwt {
  assertPresent('spiffe_id', spiffeId)
  if (claims === undefined) throw invalidResponse('claims is empty')
  const id = atPlace('spiffe_id', () => parseWorkloadId(spiffeId))
  // The decoder sets a member named __proto__ as the prototype, at any depth; a clone leaves it behind.
  const own = structuredClone<Record<string, unknown>>(claims)
  if (own['sub'] !== id) throw invalidResponse('claims name another subject')
  return { id, claims: own }
}

function readJwtSvid(entry: JWTSVID, expected: ExpectedTokens): OwnJwtSvid {
  assertPresent('spiffe_id', entry.spiffeId)
  assertPresent('svid', entry.svid)
  const id = parseWorkloadId(entry.spiffeId)
  if (expected.id !== undefined && id !== expected.id) throw invalidResponse('another identity')

  const { claims } = decodeJwt(entry.svid)
  if (claims['sub'] !== id) throw invalidResponse('token names another subject')
  const audience = audienceOf(claims['aud'])
  if (!expected.audience.every((wanted) => audience.includes(wanted))) {
    throw invalidResponse('token is not for the audience asked for')
  }
  const expiresAt = numericDateIn(claims['exp'])
  if (expiresAt === undefined) throw invalidResponse('token has no expiry')
  const issuedAt = numericDateIn(claims['iat'])
  return { id, token: entry.svid, audience, issuedAt, expiresAt, ...hintIn(entry) }
}

function audienceOf(claim: unknown): readonly string[] {
  const values: readonly unknown[] = Array.isArray(claim) ? claim : [claim]
  return values.filter((value) => typeof value === 'string')
}

function hasSameKeys(one: TrustBundle, other: TrustBundle): boolean {
  return (
    one.jwtAuthorities.size === other.jwtAuthorities.size &&
    [...one.jwtAuthorities].every(
      ([keyId, { publicKey }]) =>
        other.jwtAuthorities.get(keyId)?.publicKey.equals(publicKey) ?? false,
    )
  )
}

function isSameMap(one: JwtBundles, other: JwtBundles): boolean {
  return one.size === other.size && [...one].every(([key, value]) => other.get(key) === value)
}

import { SpiffeError } from './errors.js'
import type { JsonObject } from './strict-json.js'
import { outsideValidity } from './validity.js'

export interface ClaimExpectations {
  readonly audience: string | readonly string[]
  readonly now: Date
  readonly leewaySeconds?: number
}

export interface CheckedClaims {
  readonly audience: readonly string[]
  readonly expiresAt: number
  readonly issuedAt: number | undefined
}

const DEFAULT_LEEWAY_SECONDS = 10
const MAX_LEEWAY_SECONDS = 300
/** The last moment a `Date` can hold, in seconds. */
const MAX_SECONDS = 8.64e12

const invalid = (message: string) => new SpiffeError('CS_JWT_SVID_INVALID', message)

/**
 * Checks `aud`, `exp`, `nbf` and `iat` of a token whose signature was verified.
 * Throws `CS_JWT_SVID_INVALID`, `CS_JWT_AUDIENCE_MISMATCH` or `CS_JWT_EXPIRED`.
 */
export function readClaims(claims: JsonObject, expected: ClaimExpectations): CheckedClaims {
  const audience = audienceIn(claims)
  assertAudience(audience, expected.audience)

  const expiresAt = timeIn(claims, 'exp')
  const notBefore = timeIn(claims, 'nbf')
  if (expiresAt === undefined) throw invalid('token has no expiry')
  const leeway = leewayOf(expected) * 1000
  const outside = outsideValidity({
    notBefore,
    notAfter: expiresAt,
    early: leeway,
    // RFC 7519 §4.1.4: at `exp` the token is over, not only after it.
    late: leeway - 1,
    now: expected.now.getTime(),
  })
  if (outside !== undefined) throw new SpiffeError('CS_JWT_EXPIRED', `token ${outside}`)
  return { audience, expiresAt, issuedAt: timeIn(claims, 'iat') }
}

function audienceIn({ aud }: JsonObject): readonly string[] {
  const values: readonly unknown[] = Array.isArray(aud) ? aud : [aud]
  const texts = values.filter((value): value is string => typeof value === 'string' && value !== '')
  if (texts.length === 0 || texts.length !== values.length)
    throw invalid('token has no valid audience')
  return texts
}

/** Compared exactly, without regard to what the values look like. */
function assertAudience(audience: readonly string[], answersTo: string | readonly string[]): void {
  const own = (typeof answersTo === 'string' ? [answersTo] : answersTo).filter(
    (name) => name !== '',
  )
  if (own.length === 0) {
    throw new SpiffeError('CS_JWT_AUDIENCE_MISMATCH', 'verifier was given no audience to answer to')
  }
  if (!audience.some((value) => own.includes(value))) {
    throw new SpiffeError('CS_JWT_AUDIENCE_MISMATCH', `token is not meant for ${own.join(' or ')}`)
  }
}

/** A NumericDate (RFC 7519 §2) in milliseconds, or `undefined` for what is none. */
export function numericDateIn(value: unknown): number | undefined {
  if (typeof value !== 'number' || !(Math.abs(value) <= MAX_SECONDS)) return undefined
  return value * 1000
}

function timeIn(claims: JsonObject, name: string): number | undefined {
  const value = claims[name]
  if (value === undefined) return undefined
  const time = numericDateIn(value)
  if (time === undefined) throw invalid(`${name} of the token is not a time`)
  return time
}

function leewayOf({ leewaySeconds = DEFAULT_LEEWAY_SECONDS }: ClaimExpectations): number {
  if (!(leewaySeconds >= 0 && leewaySeconds <= MAX_LEEWAY_SECONDS)) {
    throw new RangeError(`leewaySeconds must lie between 0 and ${MAX_LEEWAY_SECONDS}`)
  }
  return leewaySeconds
}

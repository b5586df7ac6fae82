import type { SpiffeId, TrustDomain } from '../spiffe/index.js'
import { SentryError } from './errors.js'
import { assertOwnWorkload, assertTtl } from './svid-template.js'

/** All that a JWT-SVID will say, but for the header, which belongs to its key. */
export interface TokenTemplate {
  readonly subject: SpiffeId
  readonly audience: readonly string[]
  /** Seconds since 1970. */
  readonly issuedAt: number
  readonly expiresAt: number
  readonly tokenId: string
  readonly issuer: string | undefined
}

export interface TokenRequest {
  readonly trustDomain: TrustDomain
  /** When the signing key ends, in milliseconds since 1970. */
  readonly keyExpiresAt: number
  readonly now: Date
  readonly subject: SpiffeId
  readonly audience: readonly string[]
  readonly ttlSeconds: number
  readonly tokenId: string
  readonly issuer: string | undefined
}

/** A token travels in a header; a caller that names more than a handful of audiences is wrong. */
const MAX_AUDIENCES = 32
const MAX_AUDIENCE_BYTES = 2048
const MAX_TOKEN_ID_BYTES = 256
/** It has no UTF-8 form, so it would come out as another audience than was asked. */
const LONE_SURROGATE = /\p{Cs}/u

const invalid = (message: string) => new SentryError('CS_ISSUE_REQUEST_INVALID', message)

/** Settles what the token will say. Throws `CS_ISSUE_REQUEST_INVALID`. */
export function buildTokenTemplate(request: TokenRequest): TokenTemplate {
  const { subject, audience, tokenId, issuer } = request
  assertOwnWorkload(subject, request.trustDomain)
  assertAudience(audience)
  assertTtl(request.ttlSeconds)
  if (!isText(tokenId, MAX_TOKEN_ID_BYTES)) throw invalid('token id is empty or too long')

  const issuedAt = Math.floor(request.now.getTime() / 1000)
  const lastSecond = Math.floor(request.keyExpiresAt / 1000)
  const expiresAt = Math.min(issuedAt + request.ttlSeconds, lastSecond)
  return { subject, audience, issuedAt, expiresAt, tokenId, issuer }
}

function assertAudience(audience: readonly string[]): void {
  if (audience.length === 0) throw invalid('at least one audience is required')
  if (audience.length > MAX_AUDIENCES)
    throw invalid(`there are more than ${MAX_AUDIENCES} audiences`)
  if (!audience.every((value) => isText(value, MAX_AUDIENCE_BYTES))) {
    throw invalid(`an audience is empty, longer than ${MAX_AUDIENCE_BYTES} bytes or not text`)
  }
}

function isText(value: string, maxBytes: number): boolean {
  return value !== '' && Buffer.byteLength(value) <= maxBytes && !LONE_SURROGATE.test(value)
}

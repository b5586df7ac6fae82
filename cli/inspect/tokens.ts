import {
  bundleSet,
  decodeJwt,
  parseWorkloadId,
  SpiffeError,
  type TrustBundle,
  trustDomainOf,
  verifyJwtSvid,
} from '../../spiffe/index.js'
import { claimText, isoTime } from '../api/views.js'
import { fields, relativeTime } from '../output.js'
import { printable } from '../printable.js'
import { type Finding, finding, findingOf, type Inspection } from './inspection.js'

export interface TokenOptions {
  readonly now: Date
  /** Given with `--bundle`: the signature is then verified against it. */
  readonly bundle: TrustBundle | undefined
}

type Claims = Readonly<Record<string, unknown>>

/** JWT-SVID §2.1. */
const ALGORITHM = /^(RS|ES|PS)(256|384|512)$/
const times = new Set(['exp', 'iat', 'nbf'])

/** Shows header and claims of a token, which is a secret itself and is not repeated. */
export function inspectToken(token: string, { now, bundle }: TokenOptions): Inspection {
  const { header, claims } = decodeJwt(token)
  const findings = bundle
    ? verifiedFindings(token, { claims, bundle, now })
    : visibleFindings(header, claims, now)
  const verified = bundle !== undefined && findings.length === 0
  return {
    kind: 'jwt',
    findings,
    json: { header, claims, verified },
    text: [
      'JWT-SVID',
      '',
      fields([
        ...entriesOf(header, ['alg', 'kid', 'typ']),
        ...entriesOf(claims, ['sub', 'aud', 'exp', 'iat', 'nbf']).map(
          ([name, value]) => [name, timeText(name, claims[name], now) ?? value] as const,
        ),
        ['signature', verified ? 'verified against the bundle' : 'not verified'],
      ]),
    ].join('\n'),
  }
}

function verifiedFindings(
  token: string,
  { claims, bundle, now }: { claims: Claims; bundle: TrustBundle; now: Date },
): readonly Finding[] {
  return findingOf(() => {
    const trustDomain = trustDomainOf(subjectOf(claims))
    const bundles = bundleSet([{ ...bundle, trustDomain }])
    // Whoever inspects a token is rarely its audience, so the token says for whom it is verified.
    verifyJwtSvid({ token, bundles, audience: audienceOf(claims), now, leewaySeconds: 0 })
  })
}

/** What is wrong with a token as far as it shows without the key. */
function visibleFindings({ alg }: Claims, claims: Claims, now: Date): readonly Finding[] {
  const { exp, nbf } = claims
  const seconds = now.getTime() / 1000
  return [
    ...(typeof alg === 'string' && ALGORITHM.test(alg)
      ? []
      : [
          finding('CS_JWT_ALG_NOT_ALLOWED', `algorithm ${claimText(alg ?? 'none')} is not allowed`),
        ]),
    ...findingOf(() => subjectOf(claims)),
    ...(audienceOf(claims).length > 0
      ? []
      : [finding('CS_JWT_SVID_INVALID', 'token has no audience')]),
    ...(typeof exp === 'number' ? [] : [finding('CS_JWT_SVID_INVALID', 'token has no expiry')]),
    ...(typeof exp === 'number' && exp <= seconds
      ? [finding('CS_JWT_EXPIRED', `token expired ${relativeTime(exp * 1000, now)}`)]
      : []),
    ...(typeof nbf === 'number' && nbf > seconds
      ? [finding('CS_JWT_EXPIRED', `token becomes valid only ${relativeTime(nbf * 1000, now)}`)]
      : []),
  ]
}

function subjectOf({ sub }: Claims) {
  if (typeof sub !== 'string') throw new SpiffeError('CS_JWT_SVID_INVALID', 'token has no subject')
  return parseWorkloadId(sub)
}

function audienceOf({ aud }: Claims): readonly string[] {
  const values: readonly unknown[] = Array.isArray(aud) ? aud : [aud]
  return values.filter((value) => typeof value === 'string').filter((value) => value !== '')
}

/** The well-known members first and in a fixed order, then the others. */
function entriesOf(
  values: Claims,
  first: readonly string[],
): readonly (readonly [string, string])[] {
  const others = Object.keys(values).filter((name) => !first.includes(name))
  return [...first.filter((name) => Object.hasOwn(values, name)), ...others].map((name) => [
    printable(name),
    claimText(values[name]),
  ])
}

function timeText(name: string, value: unknown, now: Date): string | undefined {
  if (!times.has(name) || typeof value !== 'number') return undefined
  const ms = value * 1000
  if (!Number.isFinite(ms) || Math.abs(ms) > 8.64e15) return undefined
  return `${relativeTime(ms, now)} (${isoTime(ms)})`
}

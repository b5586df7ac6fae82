import { status } from '@grpc/grpc-js'
import type { Clock } from '../../platform/clock.js'
import {
  bundleSet,
  type JwtSvid,
  type TrustDomain,
  trustDomainOf,
  verifyJwtSvid,
} from '../../spiffe/index.js'
import type {
  ValidateJWTSVIDRequest,
  ValidateJWTSVIDResponse,
} from '../../spiffe/workload-api/index.js'
import { AgentError } from '../errors.js'
import type { HeldEntry, Identities } from '../identities/identities.js'
import { type Answer, type UnaryRequest, unaryHandler } from './calls.js'
import type { IdentityContext } from './fetch-x509-svid.js'
import type { Replies } from './replies.js'

export interface ValidationContext extends IdentityContext {
  readonly clock: Clock
  /** Claims of other trust domains that are handed on besides the registered ones. */
  readonly foreignClaims: readonly string[]
}

const bad = (details: string) => ({ code: status.INVALID_ARGUMENT, details })

/** They name the check that failed, and nothing of the token. */
const verdicts: Replies = {
  CS_JWT_SVID_INVALID: bad('token is not a valid JWT-SVID'),
  CS_JWT_ALG_NOT_ALLOWED: bad('algorithm of the token is not allowed'),
  CS_JWT_AUDIENCE_MISMATCH: bad('token is for another audience'),
  CS_JWT_KEY_UNKNOWN: bad('token is not signed by a key of its trust domain'),
  CS_JWT_EXPIRED: bad('token has expired or is not valid yet'),
  CS_BUNDLE_NOT_FOUND: bad('trust domain of the token is not trusted'),
  CS_SPIFFE_ID_INVALID: bad('subject of the token is not the SPIFFE ID of a workload'),
}

/** RFC 7519 §4.1. */
const REGISTERED_CLAIMS = ['iss', 'sub', 'aud', 'exp', 'nbf', 'iat', 'jti']

/** Checks a token by the bundles that the caller is entitled to (Workload API §6.2.3). */
export function validateJwtSvid(context: ValidationContext) {
  return unaryHandler<ValidateJWTSVIDRequest, ValidateJWTSVIDResponse>(context, {
    rpc: 'ValidateJWTSVID',
    serve: (request) => serve(request, context),
    replies: verdicts,
  })
}

async function serve(
  { request: { audience, svid }, attest }: UnaryRequest<ValidateJWTSVIDRequest>,
  { identities, entitlements, clock, foreignClaims }: ValidationContext,
): Promise<Answer<ValidateJWTSVIDResponse>> {
  if (audience === '') throw new AgentError('CS_AUDIENCE_MISSING', 'request names no audience')
  if (svid === '') throw new AgentError('CS_TOKEN_MISSING', 'request holds no token')
  entitlements.assertReady()

  const bundles = bundlesFor(entitlements.entriesOf(await attest()), identities)
  const token = verifyJwtSvid({ token: svid, bundles, audience, now: clock.now() })
  const claims = claimsOf(token, { own: identities.trustDomain, foreignClaims })
  return { response: { spiffeId: token.id, claims }, granted: { subject: token.id } }
}

function bundlesFor(entries: readonly HeldEntry[], identities: Identities) {
  const held = identities.bundles()
  const names = [identities.trustDomain, ...entries.flatMap(({ federatesWith }) => federatesWith)]
  return bundleSet(names.flatMap((name) => held.get(name) ?? []))
}

/** Another trust domain means what it likes by a claim of its own, so only known names pass. */
function claimsOf(
  { id, claims, audience }: JwtSvid,
  { own, foreignClaims }: { readonly own: TrustDomain; readonly foreignClaims: readonly string[] },
): Record<string, unknown> {
  const passes = new Set([...REGISTERED_CLAIMS, ...foreignClaims])
  const foreign = trustDomainOf(id) !== own
  const kept = Object.entries(claims).filter(([name]) => !foreign || passes.has(name))
  return Object.fromEntries([...kept, ['aud', [...audience]]])
}

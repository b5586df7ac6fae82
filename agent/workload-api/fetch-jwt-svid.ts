import { parseSpiffeId, SpiffeError } from '../../spiffe/index.js'
import type { JWTSVID, JWTSVIDRequest, JWTSVIDResponse } from '../../spiffe/workload-api/index.js'
import { AgentError } from '../errors.js'
import type { HeldEntry } from '../identities/identities.js'
import { type Answer, type UnaryRequest, unaryHandler } from './calls.js'
import type { IdentityContext } from './fetch-x509-svid.js'
import { hintsOf } from './messages.js'

/** Tokens that are in hand come sooner than this. */
const SOON_NS = 5_000_000n

/** A token for each identity of the caller, or for the one it names (Workload API §6.2.1). */
export function fetchJwtSvid(context: IdentityContext) {
  return unaryHandler<JWTSVIDRequest, JWTSVIDResponse>(context, {
    rpc: 'FetchJWTSVID',
    serve: (request) => serve(request, context),
  })
}

async function serve(
  { request, attest, signal }: UnaryRequest<JWTSVIDRequest>,
  { identities, entitlements, clock }: IdentityContext,
): Promise<Answer<JWTSVIDResponse>> {
  const { audience, spiffeId } = request
  if (audience.length === 0 || audience.includes('')) {
    throw new AgentError('CS_AUDIENCE_MISSING', 'request names no audience, or an empty one')
  }
  const wanted = spiffeId === '' ? undefined : parseSpiffeId(spiffeId)
  entitlements.assertReady()

  const entitled = entitlements.entriesOf(await attest())
  const start = clock.hrtime()
  const hints = hintsOf(entitled)
  const entries = entitled.filter((entry) => wanted === undefined || entry.spiffeId === wanted)
  if (entries.length === 0) {
    throw new SpiffeError('CS_NO_IDENTITY', 'caller has identities, but not the one it asks for')
  }
  const svids = await Promise.all(
    entries.map(async (entry): Promise<JWTSVID> => {
      const { token } = await identities.jwtSvid({ entry, audience, signal })
      return { spiffeId: entry.spiffeId, svid: token, hint: hints.get(entry) ?? '' }
    }),
  )
  if (clock.hrtime() - start > SOON_NS) {
    // The sentry has taken its time, and the caller may be another program by now.
    assertStillEntitled(entitlements.entriesOf(await attest()), entries)
  }
  return { response: { svids }, granted: { spiffeIds: svids.map((svid) => svid.spiffeId) } }
}

function assertStillEntitled(present: readonly HeldEntry[], served: readonly HeldEntry[]): void {
  const ids = new Set(present.map(({ id }) => id))
  if (served.every(({ id }) => ids.has(id))) return
  throw new SpiffeError('CS_NO_IDENTITY', 'caller lost the identity while its token was made')
}

import type {
  BatchNewX509SVIDRequest,
  BatchNewX509SVIDResponse,
  MintJWTSVIDRequest,
  MintJWTSVIDResponse,
  MintX509SVIDRequest,
  MintX509SVIDResponse,
  NewJWTSVIDRequest,
  NewJWTSVIDResponse,
  NewX509SVIDParams,
  SVIDServer,
} from '../../proto/gen/spire/api/server/svid/v1/svid.js'
import type { JWTSVID } from '../../proto/gen/spire/api/types/types.js'
import type { SpiffeId } from '../../spiffe/index.js'
import { proveKeyPossession } from '../csr.js'
import { SentryError } from '../errors.js'
import type { IssuedJwt } from '../issue.js'
import { hasExpired, type RegistrationEntry } from '../registration/entry.js'
import { workloadId } from '../registration/entry-rules.js'
import { turns } from '../turns.js'
import { nameOf } from './caller.js'
import { type ApiContext, agentIdOf } from './context.js'
import { assertNothingElse, requestedNames } from './csr-names.js'
import type { CallContext, ServerCalls } from './server-calls.js'
import { svidToWire } from './wire/agent.js'
import { okStatus, refusedStatus } from './wire/batch.js'
import { prefixed } from './wire/prefixed.js'
import { idToWire, textOfId } from './wire/spiffe-id.js'

/** `spire.api.server.svid.v1.SVID`. WIT-SVIDs are off. */
export function svidService(context: ApiContext, calls: ServerCalls): SVIDServer {
  return {
    batchNewX509Svid: calls.unary((request, call) => newX509Svids(context, request, call)),
    newJwtsvid: calls.unary((request, call) => newJwtSvid(context, request, call)),
    mintX509Svid: calls.unary((request, call) => mintX509Svid(context, request, call)),
    mintJwtsvid: calls.unary((request, call) => mintJwtSvid(context, request, call)),
    mintWitsvid: calls.unary(() => off('WIT functionality is disabled')),
    batchNewWitsvid: calls.unary(() => off('WIT functionality is disabled')),
    newDownstreamX509Ca: calls.unary(() => off('downstream authorities are not supported')),
  }
}

async function newX509Svids(
  context: ApiContext,
  { params }: BatchNewX509SVIDRequest,
  call: CallContext,
): Promise<BatchNewX509SVIDResponse> {
  if (params.length === 0) throw invalid('missing parameters')
  await context.limits.take('sign', call, params.length)
  const agent = agentIdOf(call.caller)
  const results: BatchNewX509SVIDResponse['results'] = []
  const turn = turns(context.clock)
  for (const item of params) {
    const later = turn.take()
    if (later) {
      await later
      call.signal.throwIfAborted()
    }
    try {
      const entry = entitled(context, { agent, entryId: entryIdOf(item) })
      results.push({ status: okStatus(), svid: newX509Svid(context, { item, entry, agent }) })
    } catch (error) {
      results.push({ status: refusedStatus(error), svid: undefined })
    }
  }
  await context.audit.settled()
  return { results }
}

/** The key is the caller's; all the rest is what the entry promises. */
function newX509Svid(
  { pipeline, lifetimes }: ApiContext,
  request: {
    readonly item: NewX509SVIDParams
    readonly entry: RegistrationEntry
    readonly agent: SpiffeId
  },
) {
  const { item, entry, agent } = request
  const key = provenKey(item.csr, {
    malformed: 'malformed CSR',
    notProven: 'invalid CSR signature',
  })
  assertNothingElse(item.csr, { id: entry.spiffeId, dnsNames: entry.dnsNames })
  const svid = pipeline.x509({
    key,
    id: entry.spiffeId,
    dnsNames: entry.dnsNames,
    ttlSeconds: entry.x509SvidTtl || lifetimes.x509Svid,
    requester: agent,
    entryId: entry.id,
  })
  return svidToWire(svid)
}

async function newJwtSvid(
  context: ApiContext,
  { entryId, audience }: NewJWTSVIDRequest,
  call: CallContext,
): Promise<NewJWTSVIDResponse> {
  await context.limits.take('jwt', call)
  if (entryId === '') throw invalid('missing entry ID')
  const agent = agentIdOf(call.caller)
  const entry = entitled(context, { agent, entryId })
  if (audience.length === 0) throw invalid('at least one audience is required')
  const issued = context.pipeline.jwt({
    id: entry.spiffeId,
    audience,
    ttlSeconds: entry.jwtSvidTtl || context.lifetimes.jwtSvid,
    requester: agent,
    entryId: entry.id,
  })
  await context.audit.settled()
  return { svid: jwtToWire(issued) }
}

async function mintX509Svid(
  context: ApiContext,
  { csr, ttl }: MintX509SVIDRequest,
  { caller }: CallContext,
): Promise<MintX509SVIDResponse> {
  const { pipeline, lifetimes, trustDomain, audit } = context
  if (csr.length === 0) throw invalid('missing CSR')
  const key = provenKey(csr, {
    malformed: 'malformed CSR',
    notProven: 'failed to verify CSR signature',
  })
  const { uri, dnsNames } = requestedNames(csr)
  const id = prefixed('CSR URI SAN is invalid', () => workloadId(uri, trustDomain))
  const svid = pipeline.x509({
    key,
    id,
    dnsNames,
    ttlSeconds: ttl > 0 ? ttl : lifetimes.x509Svid,
    requester: nameOf(caller),
  })
  await audit.settled()
  return { svid: svidToWire(svid) }
}

async function mintJwtSvid(
  context: ApiContext,
  { id, audience, ttl }: MintJWTSVIDRequest,
  { caller }: CallContext,
): Promise<MintJWTSVIDResponse> {
  const { pipeline, lifetimes, trustDomain, audit } = context
  const subject = prefixed('invalid SPIFFE ID', () => workloadId(textOfId(id), trustDomain))
  if (audience.length === 0) throw invalid('at least one audience is required')
  const issued = pipeline.jwt({
    id: subject,
    audience: audience.filter((name) => name.trim() !== ''),
    ttlSeconds: ttl > 0 ? ttl : lifetimes.jwtSvid,
    requester: nameOf(caller),
  })
  await audit.settled()
  return { svid: jwtToWire(issued) }
}

/** An entry that the agent may issue for now. The text is the same whether there is none or it is another's. */
function entitled(
  { authorized, clock }: ApiContext,
  { agent, entryId }: { readonly agent: SpiffeId; readonly entryId: string },
): RegistrationEntry {
  const entry = authorized.of(agent).get(entryId)
  if (entry && !hasExpired(entry, clock.now().getTime())) return entry
  throw new SentryError('CS_ENTRY_NOT_FOUND', 'entry not found or not authorized')
}

function entryIdOf({ entryId, csr }: NewX509SVIDParams): string {
  if (entryId === '') throw invalid('missing entry ID')
  if (csr.length === 0) throw invalid('missing CSR')
  return entryId
}

function provenKey(
  csr: Uint8Array,
  says: { readonly malformed: string; readonly notProven: string },
) {
  try {
    return proveKeyPossession(csr)
  } catch (error) {
    if (!(error instanceof SentryError)) throw error
    const what = error.code === 'CS_CSR_KEY_NOT_PROVEN' ? says.notProven : says.malformed
    throw new SentryError(error.code, `${what}: ${error.message}`, { cause: error })
  }
}

function jwtToWire({ token, id, issuedAt, expiresAt }: IssuedJwt): JWTSVID {
  return {
    token,
    id: idToWire(id),
    issuedAt: BigInt(Math.floor(issuedAt / 1000)),
    expiresAt: BigInt(Math.floor(expiresAt / 1000)),
    hint: '',
  }
}

function off(message: string): never {
  throw new SentryError('CS_FEATURE_OFF', message)
}

function invalid(message: string): SentryError {
  return new SentryError('CS_REQUEST_INVALID', message)
}

import type {
  AgentServer,
  CreateJoinTokenRequest,
  ListAgentsRequest,
  ListAgentsResponse,
  PostStatusRequest,
  RenewAgentRequest,
  RenewAgentResponse,
} from '../../proto/gen/spire/api/server/agent/v1/agent.js'
import type { JoinToken, SPIFFEID } from '../../proto/gen/spire/api/types/types.js'
import type { SpiffeId } from '../../spiffe/index.js'
import { type AgentRecord, agentTable } from '../attestation/agent-record.js'
import {
  AGENT_SELECTOR,
  banAgent,
  evictAgent,
  recordRenewal,
  setAgentVersion,
} from '../attestation/agents.js'
import { keepJoinToken, makeJoinToken } from '../attestation/join-token.js'
import type { AuditEvent } from '../audit/event.js'
import { proveKeyPossession } from '../csr.js'
import { SentryError } from '../errors.js'
import type { IssuedX509 } from '../issue.js'
import { plainEntry } from '../registration/entry.js'
import { agentId, workloadId } from '../registration/entry-rules.js'
import { createEntry } from '../registration/register.js'
import { agentFilter } from './agent-list.js'
import { attestAgent } from './attest.js'
import { nameOf } from './caller.js'
import { type ApiContext, agentIdOf } from './context.js'
import { assertNothingElse } from './csr-names.js'
import { recordEntry } from './entry-record.js'
import type { CallContext, ServerCalls } from './server-calls.js'
import { agentToWire, svidToWire } from './wire/agent.js'
import { pageOf } from './wire/page.js'
import { prefixed } from './wire/prefixed.js'
import { textOfId } from './wire/spiffe-id.js'

const MAX_VERSION_BYTES = 255

/** `spire.api.server.agent.v1.Agent`. */
export function agentService(context: ApiContext, calls: ServerCalls): AgentServer {
  const { datastore } = context
  const agents = datastore.view(agentTable)
  return {
    attestAgent: calls.bidirectional((stream) => attestAgent(context, stream)),
    renewAgent: calls.unary((request, call) => renewAgent(context, request, call)),
    postStatus: calls.unary((request, call) => postStatus(context, request, call)),
    createJoinToken: calls.unary((request, call) => createJoinToken(context, request, call)),
    countAgents: calls.unary(({ filter }) => {
      const keep = agentFilter(filter)
      return { count: [...agents.values()].filter(keep).length }
    }),
    listAgents: calls.unary((request) => listAgents(context, request)),
    getAgent: calls.unary(({ id, outputMask }) =>
      agentToWire(required(agents.get(requestedAgent(context, id))), outputMask),
    ),
    deleteAgent: calls.unary(async ({ id }, call) => {
      const subject = requestedAgent(context, id)
      const { value: aliases } = await datastore.write((draft) => evictAgent(draft, subject))
      for (const entry of aliases) recordEntry(context, call, { change: 'deleted', entry })
      await recordAdmin(context, call, { type: 'agent.evicted.v1', subject })
      return {}
    }),
    banAgent: calls.unary(async ({ id }, call) => {
      const subject = requestedAgent(context, id)
      await datastore.write((draft) => banAgent(draft, subject))
      await recordAdmin(context, call, { type: 'agent.banned.v1', subject })
      return {}
    }),
  }
}

function listAgents({ datastore }: ApiContext, request: ListAgentsRequest): ListAgentsResponse {
  const agents = datastore.view(agentTable)
  const rowsAfter = (position: number) => agents.createdAfter(position)
  const { items, nextPageToken } = pageOf(rowsAfter, request, agentFilter(request.filter))
  return { agents: items.map((agent) => agentToWire(agent, request.outputMask)), nextPageToken }
}

async function renewAgent(
  context: ApiContext,
  { params }: RenewAgentRequest,
  call: CallContext,
): Promise<RenewAgentResponse> {
  const { datastore, pipeline, lifetimes } = context
  await context.limits.take('sign', call)
  const id = agentIdOf(call.caller)
  const held = required(datastore.view(agentTable).get(id))
  if (held.canReattest) {
    throw new SentryError('CS_AGENT_MUST_REATTEST', 'agent must reattest instead of renew')
  }
  if (!params) throw invalid('params cannot be nil')
  if (params.csr.length === 0) throw invalid('missing CSR')
  const key = prefixed('failed to parse CSR', () => proveKeyPossession(params.csr))
  assertNothingElse(params.csr, { id, dnsNames: [] })

  let svid: IssuedX509 | undefined
  const issue = () => {
    const ttlSeconds = lifetimes.agentSvid
    svid = pipeline.x509({ key, id, dnsNames: [], ttlSeconds, requester: id })
    return svid
  }
  await datastore.write((draft) => recordRenewal(draft, { id, issue }))
  await context.audit.settled()
  return { svid: svid && svidToWire(svid) }
}

async function postStatus(
  { datastore, limits }: ApiContext,
  { agentVersion }: PostStatusRequest,
  call: CallContext,
): Promise<Record<string, never>> {
  await limits.take('status', call)
  if (Buffer.byteLength(agentVersion) > MAX_VERSION_BYTES) {
    throw invalid(`agent version is too long (max ${MAX_VERSION_BYTES} characters)`)
  }
  const id = agentIdOf(call.caller)
  required(datastore.view(agentTable).get(id))
  if (agentVersion !== '')
    await datastore.write((draft) => setAgentVersion(draft, id, agentVersion))
  return {}
}

async function createJoinToken(
  context: ApiContext,
  { ttl, token: chosen, agentId: alias }: CreateJoinTokenRequest,
  call: CallContext,
): Promise<JoinToken> {
  const { trustDomain, random, clock, datastore } = context
  if (ttl < 1) throw invalid('ttl is required, you must provide one')
  const aliasId =
    alias && prefixed('invalid agent ID', () => workloadId(textOfId(alias), trustDomain))
  const now = clock.now().getTime()
  const { value, token } = makeJoinToken({
    trustDomain,
    random,
    expiresAt: now + ttl * 1000,
    ...(chosen !== '' && { value: chosen }),
  })
  const { value: creation } = await datastore.write((draft) => {
    prefixed('failed to create token', () => keepJoinToken(draft, token))
    if (!aliasId) return undefined
    // Lets entries be written under a name that is known before the agent is.
    const entry = plainEntry({
      id: random.uuid(),
      spiffeId: aliasId,
      parentId: token.agentId,
      selectors: [{ type: AGENT_SELECTOR, value: token.agentId }],
      createdAt: BigInt(Math.floor(now / 1000)),
    })
    return prefixed('failed to create join token registration entry', () =>
      createEntry(draft, entry),
    )
  })
  if (creation) recordEntry(context, call, { change: 'created', entry: creation.entry })
  const details = { hash: token.hash, expiresAt: token.expiresAt }
  await recordAdmin(context, call, { type: 'token.created.v1', subject: token.agentId, details })
  return { value, expiresAt: BigInt(Math.floor(token.expiresAt / 1000)) }
}

function recordAdmin(
  { audit }: ApiContext,
  { caller }: CallContext,
  event: Omit<AuditEvent, 'requester'>,
): Promise<void> {
  audit.record({ ...event, requester: nameOf(caller) })
  return audit.settled()
}

function requestedAgent({ trustDomain }: ApiContext, id: SPIFFEID | undefined): SpiffeId {
  return prefixed('invalid agent ID', () => agentId(textOfId(id), trustDomain))
}

function required(agent: AgentRecord | undefined): AgentRecord {
  if (!agent) throw new SentryError('CS_AGENT_NOT_FOUND', 'agent not found')
  return agent
}

function invalid(message: string): SentryError {
  return new SentryError('CS_REQUEST_INVALID', message)
}

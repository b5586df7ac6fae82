import type { SpiffeId } from '../../spiffe/index.js'
import type { Datastore } from '../datastore/datastore.js'
import type { Draft } from '../datastore/draft.js'
import { SentryError } from '../errors.js'
import { entryTable, type RegistrationEntry } from '../registration/entry.js'
import { selectorText } from '../registration/selector.js'
import { type AgentRecord, type AgentSvid, agentTable, isBanned } from './agent-record.js'
import type { AttestedNode } from './attestor.js'
import { JOIN_TOKEN } from './join-token.js'

/** The selector of an entry that gives an agent another name. */
export const AGENT_SELECTOR = 'spiffe_id'

export interface PresentedSvid extends AgentSvid {
  readonly id: SpiffeId
}

/**
 * Whether the certificate that a caller presents is that of an agent, and the one that counts. The first
 * use of a renewed certificate makes it the current one, on disk, before anything else is done with it.
 * Throws `CS_AGENT_EXPIRED`, `CS_AGENT_NOT_ATTESTED`, `CS_AGENT_BANNED`, `CS_AGENT_NOT_ACTIVE`.
 */
export async function admitAgent(options: {
  readonly datastore: Datastore
  readonly presented: PresentedSvid
  readonly now: Date
}): Promise<AgentRecord> {
  const { datastore, presented } = options
  if (presented.notAfter <= options.now.getTime()) {
    throw new SentryError('CS_AGENT_EXPIRED', 'agent SVID has expired')
  }
  const record = activeRecord(datastore.view(agentTable).get(presented.id), presented)
  if (record.current?.serialNumber === presented.serialNumber) return record
  const { value } = await datastore.write((draft) => activate(draft, presented))
  return value
}

/** As {@link admitAgent}, for a connection that is open: true while its certificate still counts. */
export function stillAdmitted(record: AgentRecord | undefined, presented: PresentedSvid): boolean {
  return record?.current?.serialNumber === presented.serialNumber
}

/** Records that a node attested. Its earlier certificates end with it. Throws `CS_AGENT_BANNED`. */
export function recordAttestation(
  draft: Draft,
  attested: {
    readonly node: AttestedNode
    readonly attestationType: string
    readonly issue: () => AgentSvid
  },
): AgentRecord {
  const { node, attestationType, issue } = attested
  const agents = draft.table(agentTable)
  const held = agents.get(node.agentId)
  if (held && isBanned(held)) {
    throw new SentryError('CS_AGENT_BANNED', 'failed to attest: agent is banned')
  }
  node.claim?.(draft)
  const { serialNumber, notAfter } = issue()
  const record: AgentRecord = {
    id: node.agentId,
    attestationType: held?.attestationType ?? attestationType,
    selectors: uniqueSelectors(node),
    current: { serialNumber, notAfter },
    renewed: undefined,
    expiresAt: notAfter,
    canReattest: node.canReattest,
    version: held?.version ?? '',
  }
  agents.put(record)
  return record
}

/** Keeps a renewed certificate beside the current one until it is used. */
export function recordRenewal(
  draft: Draft,
  renewal: { readonly id: SpiffeId; readonly issue: () => AgentSvid },
): AgentRecord {
  const held = requireAgent(draft, renewal.id)
  if (isBanned(held)) throw new SentryError('CS_AGENT_BANNED', 'agent is banned')
  if (held.canReattest) {
    throw new SentryError('CS_AGENT_MUST_REATTEST', 'agent must reattest instead of renew')
  }
  const { serialNumber, notAfter } = renewal.issue()
  const record = { ...held, renewed: { serialNumber, notAfter } }
  draft.table(agentTable).put(record)
  return record
}

/** Takes the agent's certificates away and keeps its record, so that it cannot attest. Throws `CS_AGENT_NOT_FOUND`. */
export function banAgent(draft: Draft, id: SpiffeId): void {
  const held = requireAgent(draft, id)
  if (isBanned(held)) return
  draft.table(agentTable).put({ ...held, current: undefined, renewed: undefined })
}

/**
 * Forgets the agent, which lifts a ban, and the alias that its join token came with. Returns the entries
 * that went with it. Throws `CS_AGENT_NOT_FOUND`.
 */
export function evictAgent(draft: Draft, id: SpiffeId): readonly RegistrationEntry[] {
  const held = requireAgent(draft, id)
  draft.table(agentTable).remove(id)
  if (held.attestationType !== JOIN_TOKEN) return []
  const entries = draft.table(entryTable)
  const aliases = entries.by('parent', id).filter((entry) => isAliasOf(entry, id))
  for (const alias of aliases) entries.remove(alias.id)
  return aliases
}

/** Throws `CS_AGENT_NOT_FOUND`. */
export function setAgentVersion(draft: Draft, id: SpiffeId, version: string): void {
  const held = requireAgent(draft, id)
  if (held.version !== version) draft.table(agentTable).put({ ...held, version })
}

function requireAgent(draft: Draft, id: SpiffeId): AgentRecord {
  const held = draft.table(agentTable).get(id)
  if (!held) throw new SentryError('CS_AGENT_NOT_FOUND', 'agent not found')
  return held
}

function activate(draft: Draft, presented: PresentedSvid): AgentRecord {
  const agents = draft.table(agentTable)
  const held = activeRecord(agents.get(presented.id), presented)
  if (!held.renewed || held.renewed.serialNumber !== presented.serialNumber) return held
  const { renewed } = held
  const record = { ...held, current: renewed, renewed: undefined, expiresAt: renewed.notAfter }
  agents.put(record)
  return record
}

function activeRecord(record: AgentRecord | undefined, presented: PresentedSvid): AgentRecord {
  if (!record) throw new SentryError('CS_AGENT_NOT_ATTESTED', 'agent is not attested')
  if (isBanned(record)) throw new SentryError('CS_AGENT_BANNED', 'agent is banned')
  const known = [record.current, record.renewed].some(
    (svid) => svid?.serialNumber === presented.serialNumber,
  )
  if (!known) throw new SentryError('CS_AGENT_NOT_ACTIVE', 'agent SVID is not active')
  return record
}

function isAliasOf({ selectors }: RegistrationEntry, agentId: SpiffeId): boolean {
  const [selector, ...rest] = selectors
  return rest.length === 0 && selector?.type === AGENT_SELECTOR && selector.value === agentId
}

function uniqueSelectors({ selectors }: AttestedNode) {
  return [...new Map(selectors.map((selector) => [selectorText(selector), selector])).values()]
}

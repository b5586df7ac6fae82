import { makeSpiffeId, type SpiffeId, type TrustDomain } from '../../spiffe/index.js'
import { type AgentRecord, agentTable, isBanned } from '../attestation/agent-record.js'
import { type Change, changesOf, type Datastore } from '../datastore/datastore.js'
import { entryTable, type RegistrationEntry } from './entry.js'
import { selectorText } from './selector.js'

/** Which entries each agent may issue for. Worked out when asked, kept until something above it changes. */
export interface AuthorizedEntries {
  of(agent: SpiffeId): ReadonlyMap<string, RegistrationEntry>
  /** Called after each commit with the agents whose entries may be others now. Returns the way to stop. */
  onAffected(listener: (agents: ReadonlySet<SpiffeId>) => void): () => void
}

const nothing: ReadonlyMap<string, RegistrationEntry> = new Map()

export function authorizedEntries(
  datastore: Datastore,
  trustDomain: TrustDomain,
): AuthorizedEntries {
  const graph = entryGraph(datastore, makeSpiffeId(trustDomain, '/spire/server'))
  const agents = datastore.view(agentTable)
  const known = new Map<SpiffeId, ReadonlyMap<string, RegistrationEntry>>()
  const listeners = new Set<(agents: ReadonlySet<SpiffeId>) => void>()
  datastore.onChange((changes) => {
    const affected = affectedBy(changes, graph)
    for (const id of affected) known.delete(id)
    if (affected.size > 0) for (const listener of listeners) listener(affected)
  })
  return {
    of(id) {
      const held = known.get(id)
      if (held) return held
      const agent = agents.get(id)
      if (!agent || isBanned(agent)) return nothing
      const made = graph.below([agent.id, ...graph.aliasesOf(agent)])
      known.set(id, made)
      return made
    },
    onAffected(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
  }
}

function affectedBy(
  changes: readonly Change[],
  graph: ReturnType<typeof entryGraph>,
): ReadonlySet<SpiffeId> {
  const affected = new Set<SpiffeId>()
  for (const { before, after } of changesOf(agentTable, changes)) {
    const id = (after ?? before)?.id
    const same = before?.selectors === after?.selectors && standing(before) === standing(after)
    if (id && !same) affected.add(id)
  }
  for (const { before, after } of changesOf(entryTable, changes)) {
    if (before) graph.climb(before, affected)
    if (after) graph.climb(after, affected)
  }
  return affected
}

const standing = (agent: AgentRecord | undefined) => agent !== undefined && !isBanned(agent)

/** Entries point from parent to ID; agents are where the paths begin. */
function entryGraph(datastore: Datastore, serverId: SpiffeId) {
  const entries = datastore.view(entryTable)
  const agents = datastore.view(agentTable)

  /** All entries on paths that begin at one of `starts`, each once. */
  const below = (starts: readonly SpiffeId[]) => {
    const found = new Map<string, RegistrationEntry>()
    const seen = new Set<SpiffeId>()
    const open = [...starts]
    for (let parent = open.pop(); parent !== undefined; parent = open.pop()) {
      if (seen.has(parent)) continue
      seen.add(parent)
      for (const entry of entries.by('parent', parent)) {
        found.set(entry.id, entry)
        open.push(entry.spiffeId)
      }
    }
    return found
  }

  /** The other names of an agent: what entries under the server make of its node's selectors. */
  const aliasesOf = ({ selectors }: AgentRecord) => {
    if (selectors.length === 0) return []
    const earned = new Set(selectors.map(selectorText))
    return entries
      .by('parent', serverId)
      .filter((entry) => entry.selectors.every((selector) => earned.has(selectorText(selector))))
      .map(({ spiffeId }) => spiffeId)
  }

  /** Adds the agents whose entries may be others because of this one: those that a path to it begins at. */
  const climb = (entry: RegistrationEntry, affected: Set<SpiffeId>) => {
    const seen = new Set<SpiffeId>()
    const open = [entry]
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      if (at.parentId === serverId) addAliased(at, affected)
      if (seen.has(at.parentId)) continue
      seen.add(at.parentId)
      if (agents.get(at.parentId)) affected.add(at.parentId)
      open.push(...entries.by('spiffe-id', at.parentId))
    }
  }

  const addAliased = (alias: RegistrationEntry, affected: Set<SpiffeId>) => {
    const [first, ...rest] = alias.selectors.map(selectorText)
    if (first === undefined) return
    for (const agent of agents.by('selector', first)) {
      const earned = new Set(agent.selectors.map(selectorText))
      if (rest.every((text) => earned.has(text))) affected.add(agent.id)
    }
  }

  return { below, aliasesOf, climb }
}

import type { SpiffeId } from '../../../spiffe/index.js'
import { type AgentRecord, agentTable, isBanned } from '../../attestation/agent-record.js'
import { stillAdmitted } from '../../attestation/agents.js'
import { bundleTable } from '../../bundles/bundle-record.js'
import { type Change, changesOf } from '../../datastore/datastore.js'
import { SentryError } from '../../errors.js'
import { type PolicyTarget, policyTargetTable } from '../../policy/policy-record.js'
import type { Follower, FollowerOptions, Part } from './follower.js'

/** Knows who follows, and tells those whom a change concerns. */
export interface UpdatesHub {
  readonly size: number
  enter(follower: Follower): void
  leave(follower: Follower): void
  /** Everybody holds snapshots of a signer that has been replaced. */
  signerChanged(): void
  /** Ends every stream. */
  close(error: Error): void
}

/** Followers that are woken before other work gets its turn. */
const WAKE_AT_ONCE = 64

export function updatesHub(options: Pick<FollowerOptions, 'datastore' | 'authorized'>): UpdatesHub {
  const { datastore, authorized } = options
  const followers = new Map<SpiffeId, Set<Follower>>()
  const waiting = new Map<Follower, Set<Part>>()
  let waking = false

  const everybody = () => [...followers.values()].flatMap((some) => [...some])

  const wake = async () => {
    waking = true
    while (waiting.size > 0) {
      for (const [follower, parts] of [...waiting].slice(0, WAKE_AT_ONCE)) {
        waiting.delete(follower)
        for (const part of parts) follower.mark(part)
      }
      await new Promise((resolve) => setImmediate(resolve))
    }
    waking = false
  }
  const tell = (follower: Follower, part: Part) => {
    const parts = waiting.get(follower)
    if (parts) parts.add(part)
    else waiting.set(follower, new Set([part]))
    if (!waking) void wake()
  }

  authorized.onAffected((agents) => {
    for (const agent of agents) for (const one of followers.get(agent) ?? []) tell(one, 'entries')
  })
  datastore.onChange((changes) => {
    for (const { after, before } of changesOf(agentTable, changes)) {
      const id = (after ?? before)?.id
      for (const one of (id && followers.get(id)) ?? []) endIfDismissed(one, after)
    }
    for (const { after, before } of changesOf(bundleTable, changes)) {
      const name = (after ?? before)?.trustDomain
      for (const one of everybody()) if (name && one.federatesWith(name)) tell(one, 'bundles')
    }
    const targets = changesOf(policyTargetTable, changes).map(targetOf)
    for (const one of targets.length > 0 ? everybody() : []) {
      if (targets.some((target) => target && one.runs(target))) tell(one, 'snapshots')
    }
  })

  return {
    get size() {
      return everybody().length
    },
    enter(follower) {
      const { id } = follower.agent
      const some = followers.get(id)
      if (some) some.add(follower)
      else followers.set(id, new Set([follower]))
      // It may have been dismissed between the check of its call and now.
      endIfDismissed(follower, datastore.view(agentTable).get(id))
    },
    leave(follower) {
      const { id } = follower.agent
      const some = followers.get(id)
      some?.delete(follower)
      if (some?.size === 0) followers.delete(id)
      waiting.delete(follower)
    },
    signerChanged() {
      for (const one of everybody()) tell(one, 'snapshots')
    },
    close(error) {
      for (const one of everybody()) one.end(error)
    },
  }
}

/**
 * A stream outlives the check at its beginning: who is banned or evicted is sent away. An agent that
 * renewed comes back with its new certificate; whoever still has only the old one is refused then.
 */
function endIfDismissed(follower: Follower, record: AgentRecord | undefined): void {
  if (stillAdmitted(record, follower.agent)) return
  if (!record) follower.end(new SentryError('CS_AGENT_NOT_ATTESTED', 'agent was evicted'))
  else if (isBanned(record)) follower.end(new SentryError('CS_AGENT_BANNED', 'agent is banned'))
  else follower.end()
}

function targetOf({ after, before }: Change<PolicyTarget>): SpiffeId | undefined {
  return (after ?? before)?.target
}

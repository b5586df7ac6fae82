import type {
  CountAgentsRequest,
  ListAgentsRequest,
} from '../../proto/gen/spire/api/server/agent/v1/agent.js'
import { type AgentRecord, isBanned } from '../attestation/agent-record.js'
import { selectorText, setMatches } from '../registration/selector.js'
import { selectorFilter } from './wire/selectors.js'

type Filter = NonNullable<ListAgentsRequest['filter'] | CountAgentsRequest['filter']>

/** All conditions of a filter at once. Throws `CS_REQUEST_INVALID`, `CS_ENTRY_INVALID`. */
export function agentFilter(filter: Filter | undefined): (agent: AgentRecord) => boolean {
  if (!filter) return () => true
  const selectors = selectorFilter(filter.bySelectorMatch, 'failed to parse selectors')
  const before = goTime(filter.byExpiresBefore)
  const { byAttestationType, byBanned, byCanReattest } = filter
  return (agent) =>
    (byAttestationType === '' || agent.attestationType === byAttestationType) &&
    (byBanned === undefined || isBanned(agent) === byBanned) &&
    (byCanReattest === undefined || agent.canReattest === byCanReattest) &&
    (before === undefined || agent.expiresAt < before) &&
    (selectors === undefined ||
      setMatches(new Set(agent.selectors.map(selectorText)), selectors.requested, selectors.match))
}

const GO_TIME = /^(\d{4}-\d{2}-\d{2}) (\d{2}:\d{2}:\d{2}) ([+-]\d{2})(\d{2}) [+-]\d{2}$/

/** Go's layout `2006-01-02 15:04:05 -0700 -07`. SPIRE ignores text that is not in it, and so do we. */
function goTime(text: string): number | undefined {
  const match = GO_TIME.exec(text)
  if (!match) return undefined
  const [, day, time, hours, minutes] = match
  const moment = Date.parse(`${day}T${time}${hours}:${minutes}`)
  return Number.isNaN(moment) ? undefined : moment
}

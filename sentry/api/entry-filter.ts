import type {
  CountEntriesRequest_Filter,
  ListEntriesRequest_Filter,
} from '../../proto/gen/spire/api/server/entry/v1/entry.js'
import type { SPIFFEID } from '../../proto/gen/spire/api/types/types.js'
import type { SpiffeId, TrustDomain } from '../../spiffe/index.js'
import type { RegistrationEntry } from '../registration/entry.js'
import { memberId, workloadId } from '../registration/entry-rules.js'
import { selectorText, setMatches } from '../registration/selector.js'
import { prefixed } from './wire/prefixed.js'
import { selectorFilter, trustDomainFilter } from './wire/selectors.js'
import { textOfId } from './wire/spiffe-id.js'

/** All conditions of a filter at once. Throws `CS_REQUEST_INVALID`, `CS_ENTRY_INVALID`. */
export function entryFilter(
  filter: ListEntriesRequest_Filter | CountEntriesRequest_Filter | undefined,
  trustDomain: TrustDomain,
): (entry: RegistrationEntry) => boolean {
  if (!filter) return () => true
  const spiffeId = idIn(filter.bySpiffeId, 'malformed SPIFFE ID filter', (text) =>
    workloadId(text, trustDomain),
  )
  const parentId = idIn(filter.byParentId, 'malformed parent ID filter', (text) =>
    memberId(text, trustDomain),
  )
  const selectors = selectorFilter(filter.bySelectors, 'malformed selectors filter')
  const federates = trustDomainFilter(filter.byFederatesWith, 'malformed federates with filter')
  const { byHint, byDownstream } = filter
  return (entry) =>
    (spiffeId === undefined || entry.spiffeId === spiffeId) &&
    (parentId === undefined || entry.parentId === parentId) &&
    (selectors === undefined ||
      setMatches(
        new Set(entry.selectors.map(selectorText)),
        selectors.requested,
        selectors.match,
      )) &&
    (federates === undefined ||
      setMatches(new Set(entry.federatesWith), federates.requested, federates.match)) &&
    // An empty hint is no filter, and neither is `false`: SPIRE's command line always sends it.
    (!byHint || entry.hint === byHint) &&
    (!byDownstream || entry.downstream)
}

function idIn(
  id: SPIFFEID | undefined,
  what: string,
  read: (text: string) => SpiffeId,
): SpiffeId | undefined {
  return id && prefixed(what, () => read(textOfId(id)))
}

import {
  SelectorMatch_MatchBehavior as Behavior,
  type FederatesWithMatch,
  type Selector,
  type SelectorMatch,
} from '../../../proto/gen/spire/api/types/types.js'
import { SentryError } from '../../errors.js'
import { assertSelectors, type SetMatch, selectorText } from '../../registration/selector.js'
import { prefixed } from './prefixed.js'
import { trustDomainFromWire } from './spiffe-id.js'

/** A set that a filter asks for, as texts, and how candidates must relate to it. */
export interface SetFilter {
  readonly requested: ReadonlySet<string>
  readonly match: SetMatch
}

/** Throws `CS_REQUEST_INVALID`, `CS_ENTRY_INVALID`. */
export function selectorFilter(
  filter: SelectorMatch | undefined,
  what: string,
): SetFilter | undefined {
  return (
    filter &&
    prefixed(what, () => {
      const selectors = selectorsFromWire(filter.selectors)
      return setFilter(selectors.map(selectorText), filter.match)
    })
  )
}

/** Throws `CS_REQUEST_INVALID`. */
export function trustDomainFilter(
  filter: FederatesWithMatch | undefined,
  what: string,
): SetFilter | undefined {
  return (
    filter &&
    prefixed(what, () => setFilter(filter.trustDomains.map(trustDomainFromWire), filter.match))
  )
}

function selectorsFromWire(selectors: readonly Selector[]): readonly Selector[] {
  assertSelectors(selectors)
  return selectors
}

function setFilter(texts: readonly string[], behavior: number): SetFilter {
  if (texts.length === 0) throw new SentryError('CS_REQUEST_INVALID', 'the set is empty')
  return { requested: new Set(texts), match: matchFromWire(behavior) }
}

function matchFromWire(behavior: number): SetMatch {
  switch (behavior) {
    case Behavior.MATCH_EXACT:
      return 'exact'
    case Behavior.MATCH_SUBSET:
      return 'subset'
    case Behavior.MATCH_SUPERSET:
      return 'superset'
    case Behavior.MATCH_ANY:
      return 'any'
    default:
      throw new SentryError('CS_REQUEST_INVALID', `match behavior ${behavior} is not supported`)
  }
}

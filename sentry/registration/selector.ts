import { SentryError } from '../errors.js'

/** One fact that an attestor vouches for. Equality is on both parts, byte by byte. */
export interface Selector {
  readonly type: string
  readonly value: string
}

const invalid = (message: string) => new SentryError('CS_ENTRY_INVALID', message)

/** Throws `CS_ENTRY_INVALID`. */
export function assertSelectors(selectors: readonly Selector[]): void {
  for (const { type, value } of selectors) {
    if (type === '') throw invalid('missing selector type')
    if (type.includes(':')) throw invalid("selector type contains ':'")
    if (value === '') throw invalid('missing selector value')
  }
}

/** A type has no colon, so two selectors have the same text only if they are the same. */
export function selectorText({ type, value }: Selector): string {
  return `${type}:${value}`
}

/** How a set of candidates relates to the requested set. */
export type SetMatch = 'exact' | 'subset' | 'superset' | 'any'

/** No set matches an empty candidate set as a subset: what has nothing has not earned anything. */
export function setMatches(
  candidates: ReadonlySet<string>,
  requested: ReadonlySet<string>,
  match: SetMatch,
): boolean {
  switch (match) {
    case 'exact':
      return candidates.size === requested.size && isSubset(candidates, requested)
    case 'subset':
      return candidates.size > 0 && isSubset(candidates, requested)
    case 'superset':
      return isSubset(requested, candidates)
    case 'any':
      return [...requested].some((text) => candidates.has(text))
  }
}

function isSubset(inner: ReadonlySet<string>, outer: ReadonlySet<string>): boolean {
  if (inner.size > outer.size) return false
  for (const text of inner) if (!outer.has(text)) return false
  return true
}

import type { HeldEntry, Selector } from './identities.js'

/** Finds entries by what a process has shown. Keeps the order in which it was given them. */
export type EntryMatcher = (selectors: readonly Selector[]) => readonly HeldEntry[]

/**
 * An entry matches when all its selectors are among those shown; one without selectors never does.
 * Every entry is kept under one of its selectors, so that a call looks only at those it might match.
 */
export function entryMatcher(entries: readonly HeldEntry[]): EntryMatcher {
  const position = new Map(entries.map((entry, index) => [entry, index]))
  const byFirst = groupByFirst(entries)

  return (selectors) => {
    const shown = new Set(selectors.map(keyOf))
    const candidates = [...shown].flatMap((key) => byFirst.get(key) ?? [])
    return candidates
      .filter((entry) => entry.selectors.every((selector) => shown.has(keyOf(selector))))
      .sort((a, b) => (position.get(a) ?? 0) - (position.get(b) ?? 0))
  }
}

function groupByFirst(entries: readonly HeldEntry[]): ReadonlyMap<string, readonly HeldEntry[]> {
  const groups = new Map<string, HeldEntry[]>()
  for (const entry of entries) {
    const [first] = entry.selectors
    if (!first) continue
    const key = keyOf(first)
    const group = groups.get(key)
    if (group) group.push(entry)
    else groups.set(key, [entry])
  }
  return groups
}

/** Types have no colon in them, so no two selectors share a key. */
function keyOf({ type, value }: Selector): string {
  return `${type}:${value}`
}

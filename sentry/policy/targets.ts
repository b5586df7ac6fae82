import type { SpiffeId } from '../../spiffe/index.js'
import { type Change, changesOf, type Datastore } from '../datastore/datastore.js'
import { entryTable } from '../registration/entry.js'

/** The targets there are, which are the IDs that entries promise, and under which keys they look for policy. */
export interface TargetIndex {
  has(target: SpiffeId): boolean
  under(keys: Iterable<string>): ReadonlySet<SpiffeId>
  all(): readonly SpiffeId[]
  /** Follows the changes and returns the targets that are new with them. */
  follow(changes: readonly Change[]): readonly SpiffeId[]
}

export function targetIndex(
  datastore: Datastore,
  keysOfTarget: (target: SpiffeId) => readonly string[],
): TargetIndex {
  const entries = datastore.view(entryTable)
  const keysOf = new Map<SpiffeId, readonly string[]>()
  const filed = new Map<string, Set<SpiffeId>>()

  const add = (target: SpiffeId): boolean => {
    if (keysOf.has(target)) return false
    const keys = keysOfTarget(target)
    keysOf.set(target, keys)
    for (const key of keys) {
      const targets = filed.get(key)
      if (targets) targets.add(target)
      else filed.set(key, new Set([target]))
    }
    return true
  }
  const drop = (target: SpiffeId) => {
    for (const key of keysOf.get(target) ?? []) {
      const targets = filed.get(key)
      targets?.delete(target)
      if (targets?.size === 0) filed.delete(key)
    }
    keysOf.delete(target)
  }
  for (const { spiffeId } of entries.values()) add(spiffeId)

  return {
    has: (target) => keysOf.has(target),
    under: (keys) => new Set(Array.from(keys, (key) => [...(filed.get(key) ?? [])]).flat()),
    all: () => [...keysOf.keys()],
    follow(changes) {
      const touched = changesOf(entryTable, changes).flatMap(({ before, after }) => [
        ...(before ? [before.spiffeId] : []),
        ...(after ? [after.spiffeId] : []),
      ])
      const fresh: SpiffeId[] = []
      for (const target of new Set(touched)) {
        if (entries.by('spiffe-id', target).length === 0) drop(target)
        else if (add(target)) fresh.push(target)
      }
      return fresh
    },
  }
}

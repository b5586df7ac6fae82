import type { SpiffeId, TrustDomain } from '../../../spiffe/index.js'
import type { BundleRecord } from '../../bundles/bundle-record.js'
import type { SignableSnapshot } from '../../policy/snapshot-signer.js'
import type { RegistrationEntry } from '../../registration/entry.js'

/** All that an agent holds, or is to hold. Objects are immutable, so `===` tells whether one changed. */
export interface HeldState {
  readonly entries: ReadonlyMap<string, RegistrationEntry>
  readonly bundles: ReadonlyMap<TrustDomain, BundleRecord>
  readonly snapshots: ReadonlyMap<SpiffeId, SignableSnapshot>
}

/** What turns one state into another. */
export interface StateChange {
  readonly entries: readonly RegistrationEntry[]
  readonly removedEntryIds: readonly string[]
  readonly bundles: readonly BundleRecord[]
  readonly removedTrustDomains: readonly TrustDomain[]
  readonly snapshots: readonly SignableSnapshot[]
  readonly removedTargets: readonly SpiffeId[]
}

export const nothingHeld: HeldState = {
  entries: new Map(),
  bundles: new Map(),
  snapshots: new Map(),
}

export function changeBetween(before: HeldState, after: HeldState): StateChange {
  return {
    entries: arrived(before.entries, after.entries),
    removedEntryIds: departed(before.entries, after.entries),
    bundles: arrived(before.bundles, after.bundles),
    removedTrustDomains: departed(before.bundles, after.bundles),
    snapshots: arrived(before.snapshots, after.snapshots),
    removedTargets: departed(before.snapshots, after.snapshots),
  }
}

export function isEmptyChange(change: StateChange): boolean {
  return Object.values(change).every((list: readonly unknown[]) => list.length === 0)
}

function arrived<K, V>(before: ReadonlyMap<K, V>, after: ReadonlyMap<K, V>): V[] {
  if (before === after) return []
  const found: V[] = []
  for (const [key, value] of after) if (before.get(key) !== value) found.push(value)
  return found
}

function departed<K>(before: ReadonlyMap<K, unknown>, after: ReadonlyMap<K, unknown>): K[] {
  if (before === after) return []
  return [...before.keys()].filter((key) => !after.has(key))
}

import { isDeepStrictEqual } from 'node:util'
import type { SignedSnapshot } from '../../proto/gen/countersign/policy/v1/policy.js'
import type { TrustDomain } from '../../spiffe/index.js'
import type { Held, HeldBundle, HeldSvid } from './held.js'
import type { HeldEntry } from './identities.js'
import { sameBundle, trustJudge } from './trust.js'

/** One change that a sentry tells, to be taken whole. */
export interface Update {
  readonly sequence: bigint
  /** Replaces everything that is held; otherwise only what it names changes. */
  readonly full: boolean
  readonly entries: readonly HeldEntry[]
  readonly removedEntryIds: readonly string[]
  readonly bundles: readonly HeldBundle[]
  readonly removedTrustDomains: readonly TrustDomain[]
  readonly snapshots: readonly SignedSnapshot[]
  readonly removedTargets: readonly string[]
}

/** The update that changes nothing, to be spread into one that does. */
export const noUpdate: Update = {
  sequence: 0n,
  full: false,
  entries: [],
  removedEntryIds: [],
  bundles: [],
  removedTrustDomains: [],
  snapshots: [],
  removedTargets: [],
}

/**
 * What is held after `update`. An SVID goes with its entry, and at once when the entry takes another
 * SPIFFE ID; one that our bundle no longer stands by becomes due at `now`. Our own bundle is never
 * given up. Whatever stays equal stays the same object.
 */
export function applyUpdate(
  held: Held,
  update: Update,
  { trustDomain, now }: { readonly trustDomain: TrustDomain; readonly now: number },
): Held {
  const bundles = change(held.bundles, {
    full: update.full,
    add: update.bundles.map((each) => [each.bundle.trustDomain, each]),
    remove: update.removedTrustDomains,
    keep: trustDomain,
    same: sameBundle,
  })
  const before = new Map(held.entries.map((entry) => [entry.id, entry]))
  const byId = change(before, {
    full: update.full,
    add: update.entries.map((entry) => [entry.id, entry]),
    remove: update.removedEntryIds,
    same: isDeepStrictEqual,
  })
  const snapshots = change(held.snapshots, {
    full: update.full,
    add: update.snapshots.map((snapshot) => [snapshot.target, snapshot]),
    remove: update.removedTargets,
    same: sameSnapshot,
  })
  const own = bundles.get(trustDomain)
  const earned = byId === before ? held.svids : svidsOf(byId, held.svids)
  return {
    sequence: update.sequence,
    entries: byId === before ? held.entries : [...byId.values()].sort(inOrder),
    bundles,
    svids:
      own === held.bundles.get(trustDomain) ? earned : dueWhereDistrusted(earned, { own, now }),
    snapshots,
  }
}

/** Whether anything differs that a workload could see. */
export function isVisible(before: Held, after: Held): boolean {
  return (
    before.entries !== after.entries ||
    before.bundles !== after.bundles ||
    before.svids !== after.svids ||
    before.snapshots !== after.snapshots
  )
}

interface Change<Key, Value> {
  readonly full: boolean
  readonly add: readonly (readonly [Key, Value])[]
  readonly remove: readonly Key[]
  /** What only an addition can replace. */
  readonly keep?: Key
  readonly same: (a: Value, b: Value) => boolean
}

function change<Key, Value>(
  held: ReadonlyMap<Key, Value>,
  { full, add, remove, keep, same }: Change<Key, Value>,
): ReadonlyMap<Key, Value> {
  const gone = new Set(remove)
  const changed = new Map([...held].filter(([key]) => key === keep || !(full || gone.has(key))))
  for (const [key, value] of add) {
    const old = held.get(key)
    changed.set(key, old !== undefined && same(old, value) ? old : value)
  }
  const unchanged =
    changed.size === held.size && [...changed].every(([key, value]) => held.get(key) === value)
  return unchanged ? held : changed
}

function svidsOf(
  entries: ReadonlyMap<string, HeldEntry>,
  svids: ReadonlyMap<string, HeldSvid>,
): ReadonlyMap<string, HeldSvid> {
  const earned = [...svids].filter(([id, { svid }]) => entries.get(id)?.spiffeId === svid.id)
  return earned.length === svids.size ? svids : new Map(earned)
}

function dueWhereDistrusted(
  svids: ReadonlyMap<string, HeldSvid>,
  { own, now }: { readonly own: HeldBundle | undefined; readonly now: number },
): ReadonlyMap<string, HeldSvid> {
  if (!own) return svids
  const trusted = trustJudge(own, now)
  const judged = [...svids].map(([id, held]): [string, HeldSvid] =>
    held.renewAt <= now || trusted(held.svid) ? [id, held] : [id, { ...held, renewAt: now }],
  )
  return judged.every(([id, held]) => svids.get(id) === held) ? svids : new Map(judged)
}

function sameSnapshot(a: SignedSnapshot, b: SignedSnapshot): boolean {
  return (
    Buffer.compare(a.content, b.content) === 0 &&
    Buffer.compare(a.signature, b.signature) === 0 &&
    Buffer.compare(Buffer.concat(a.signerChain), Buffer.concat(b.signerChain)) === 0
  )
}

function inOrder(a: HeldEntry, b: HeldEntry): number {
  if (a.createdAt !== b.createdAt) return a.createdAt < b.createdAt ? -1 : 1
  return a.id < b.id ? -1 : 1
}

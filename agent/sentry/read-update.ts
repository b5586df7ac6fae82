import type { Log } from '../../platform/log.js'
import type { FollowResponse } from '../../proto/gen/countersign/sentry/v1/updates.js'
import type { Bundle, Entry } from '../../proto/gen/spire/api/types/types.js'
import { parseSpiffeId, type TrustDomain } from '../../spiffe/index.js'
import type { HeldBundle } from '../identities/held.js'
import type { HeldEntry } from '../identities/identities.js'
import { noUpdate, type Update } from '../identities/update.js'
import { readBundle, readEntry, readTrustDomain, unusable } from './wire.js'

/** What a sentry says about entries, bundles and snapshots, with whatever was left out of a full message. */
export type UpdateReader = (message: Partial<FollowResponse>) => Update

export interface ReadOptions {
  readonly trustDomain: TrustDomain
  /** The bundle in force, which stays so when its successor cannot be used. */
  readonly heldBundle: (trustDomain: TrustDomain) => HeldBundle | undefined
  readonly log: Log
}

/**
 * Makes a reader that no single bad item can stop: an entry that cannot be read counts as withdrawn,
 * of a bundle the last good one stays, and the log says so.
 */
export function updateReader({ trustDomain, heldBundle, log }: ReadOptions): UpdateReader {
  const attempt = <Item, Result>(items: readonly Item[], read: (item: Item) => Result) =>
    items.map((item) => {
      try {
        return { item, result: read(item) }
      } catch (error) {
        const { message } = error as Error
        log.warn(
          { code: 'CS_SENTRY_RESPONSE_INVALID', reason: message },
          'item of an update left out',
        )
        return { item, result: undefined }
      }
    })

  return (message) => {
    const entries = attempt(message.entries ?? [], (entry) => usableEntry(entry, trustDomain))
    const bundles = attempt(message.bundles ?? [], (bundle) => usableBundle(bundle, trustDomain))
    const snapshots = attempt(message.snapshots ?? [], (snapshot) => {
      parseSpiffeId(snapshot.target)
      return snapshot
    })
    const kept = bundles.map(({ item, result }) => result ?? heldUnder(item.trustDomain))
    return {
      ...noUpdate,
      sequence: message.sequence ?? 0n,
      full: message.full ?? false,
      entries: entries.flatMap(({ result }) => result ?? []),
      removedEntryIds: [
        ...(message.removedEntryIds ?? []),
        ...entries.filter(({ result }) => !result).map(({ item }) => item.id),
      ],
      bundles: kept.filter((bundle) => bundle !== undefined),
      removedTrustDomains: attempt(message.removedTrustDomains ?? [], readTrustDomain)
        .flatMap(({ result }) => result ?? [])
        .filter((name) => name !== trustDomain),
      snapshots: snapshots.flatMap(({ result }) => result ?? []),
      removedTargets: message.removedTargets ?? [],
    }
  }

  function heldUnder(name: string): HeldBundle | undefined {
    try {
      return heldBundle(readTrustDomain(name))
    } catch {
      return undefined
    }
  }
}

/** Entries whose SVIDs go to a store are not for the workloads of this machine. */
function usableEntry(entry: Entry, trustDomain: TrustDomain): HeldEntry | undefined {
  return entry.storeSvid ? undefined : readEntry(entry, trustDomain)
}

/** A bundle of ours without roots would leave nobody to trust; a federated one may say just that. */
function usableBundle(wire: Bundle, trustDomain: TrustDomain): HeldBundle {
  const held = readBundle(wire)
  const { bundle } = held
  if (bundle.trustDomain === trustDomain && bundle.x509Authorities.length === 0) {
    throw unusable('bundle of our own trust domain holds no X.509 authority')
  }
  return held
}

import type { TrustDomain } from '../../spiffe/index.js'
import { bundleTable } from '../bundles/bundle-record.js'
import type { Draft } from '../datastore/draft.js'
import { SentryError } from '../errors.js'
import { EXPIRES, entryTable, hasExpired, type RegistrationEntry, similarityOf } from './entry.js'
import { assertEntry } from './entry-rules.js'

/** What came of creating: a similar entry that was there before is not an error for whoever wants it there. */
export type Creation =
  | { readonly kind: 'created'; readonly entry: RegistrationEntry }
  | { readonly kind: 'similar'; readonly entry: RegistrationEntry }

/** Throws `CS_ENTRY_INVALID`, `CS_ENTRY_EXISTS`, `CS_FEDERATED_BUNDLE_MISSING`. */
export function createEntry(draft: Draft, entry: RegistrationEntry): Creation {
  assertEntry(entry)
  const entries = draft.table(entryTable)
  const [similar] = entries.by('similarity', similarityOf(entry))
  if (similar) return { kind: 'similar', entry: similar }
  if (entries.get(entry.id)) {
    throw new SentryError('CS_ENTRY_EXISTS', `an entry with ID ${entry.id} exists already`)
  }
  assertBundles(draft, entry.federatesWith)
  entries.put(entry)
  return { kind: 'created', entry }
}

/**
 * Puts the entry in the place of the one with its id, as the next revision of it. Throws
 * `CS_ENTRY_NOT_FOUND` and as {@link createEntry} does.
 */
export function updateEntry(draft: Draft, entry: RegistrationEntry): RegistrationEntry {
  const entries = draft.table(entryTable)
  const held = entries.get(entry.id)
  if (!held) throw new SentryError('CS_ENTRY_NOT_FOUND', 'entry not found')
  const changed = { ...entry, createdAt: held.createdAt, revision: held.revision + 1n }
  assertEntry(changed)
  assertBundles(draft, changed.federatesWith)
  entries.put(changed)
  return changed
}

/** Throws `CS_ENTRY_NOT_FOUND`. */
export function deleteEntry(draft: Draft, id: string): RegistrationEntry {
  const entries = draft.table(entryTable)
  const held = entries.get(id)
  if (!held) throw new SentryError('CS_ENTRY_NOT_FOUND', 'entry not found')
  entries.remove(id)
  return held
}

/** Deletes what has expired at `now`, in milliseconds since 1970. */
export function pruneEntries(draft: Draft, now: number): readonly RegistrationEntry[] {
  const entries = draft.table(entryTable)
  const expired = entries.by('expires', EXPIRES).filter((entry) => hasExpired(entry, now))
  for (const { id } of expired) entries.remove(id)
  return expired
}

function assertBundles(draft: Draft, trustDomains: readonly TrustDomain[]): void {
  const bundles = draft.table(bundleTable)
  for (const trustDomain of trustDomains) {
    if (!bundles.get(trustDomain)) {
      throw new SentryError(
        'CS_FEDERATED_BUNDLE_MISSING',
        `unable to find federated bundle "spiffe://${trustDomain}"`,
      )
    }
  }
}

import type {
  SyncAuthorizedEntriesRequest,
  SyncAuthorizedEntriesResponse,
} from '../../proto/gen/spire/api/server/entry/v1/entry.js'
import type { EntryMask } from '../../proto/gen/spire/api/types/types.js'
import { SentryError } from '../errors.js'
import type { RegistrationEntry } from '../registration/entry.js'
import type { Conversation } from './server-calls.js'
import { inSlices } from './wire/batch.js'
import { maskedEntry } from './wire/entry.js'

/** Entries, or revisions, per message. */
export const SYNC_PAGE_SIZE = 500

type Sync = Conversation<SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse>

/**
 * Few entries go out whole. Of many the caller learns the revisions, asks for those it lacks, and gets
 * them, until it closes the stream. The set is the one of the moment when the stream opened.
 */
export async function syncAuthorizedEntries(
  entries: ReadonlyMap<string, RegistrationEntry>,
  stream: Sync,
): Promise<void> {
  const first = await stream.read()
  if (!first) return
  const { outputMask: mask } = first
  assertFirst(first)
  if (entries.size <= SYNC_PAGE_SIZE) {
    await sendEntries(stream, { entries: [...entries.values()], mask })
    return
  }
  await sendRevisions(stream, [...entries.values()])
  for (let asked = await stream.read(); asked; asked = await stream.read()) {
    // What is unknown, or no longer the caller's, is left out without a word.
    const found = asked.ids.flatMap((id) => entries.get(id) ?? [])
    await sendEntries(stream, { entries: found, mask })
  }
}

function assertFirst({ ids, outputMask }: SyncAuthorizedEntriesRequest): void {
  if (ids.length > 0) throw invalid('specifying IDs on initial request is not supported')
  if (outputMask && !outputMask.revisionNumber) throw invalid('revision number cannot be masked')
}

async function sendRevisions(stream: Sync, entries: readonly RegistrationEntry[]): Promise<void> {
  let left = entries.length
  for (const page of inSlices(entries, SYNC_PAGE_SIZE)) {
    left -= page.length
    const entryRevisions = page.map(({ id, revision, createdAt }) => ({
      id,
      revisionNumber: revision,
      createdAt,
    }))
    await stream.write({ entryRevisions, entries: [], more: left > 0 })
  }
}

/** At least one message, even if it is empty. */
async function sendEntries(
  stream: Sync,
  answer: { readonly entries: readonly RegistrationEntry[]; readonly mask: EntryMask | undefined },
): Promise<void> {
  const { entries, mask } = answer
  if (entries.length === 0) {
    await stream.write({ entryRevisions: [], entries: [], more: false })
    return
  }
  let left = entries.length
  for (const page of inSlices(entries, SYNC_PAGE_SIZE)) {
    left -= page.length
    const wire = page.map((entry) => maskedEntry(entry, mask))
    await stream.write({ entryRevisions: [], entries: wire, more: left > 0 })
  }
}

function invalid(message: string): SentryError {
  return new SentryError('CS_REQUEST_INVALID', message)
}

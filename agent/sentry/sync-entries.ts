import type {
  EntryRevision,
  SyncAuthorizedEntriesRequest,
  SyncAuthorizedEntriesResponse,
} from '../../proto/gen/spire/api/server/entry/v1/entry.js'
import { type Entry, EntryMask } from '../../proto/gen/spire/api/types/types.js'
import type { HeldEntry } from '../identities/identities.js'
import { onAbort } from '../waits.js'
import type { Connection } from './connection.js'
import { refusalOf } from './refusal.js'
import { unusable } from './wire.js'

/** The entries of the agent: those it holds already, and those that are new or have changed. */
export interface SyncedEntries {
  readonly unchanged: readonly HeldEntry[]
  readonly changed: readonly Entry[]
}

const mask = EntryMask.fromPartial({
  spiffeId: true,
  selectors: true,
  federatesWith: true,
  admin: true,
  downstream: true,
  revisionNumber: true,
  storeSvid: true,
  hint: true,
  additionalAttributes: true,
  createdAt: true,
})

/**
 * One round of SyncAuthorizedEntries. A short list comes whole in one message; of a long one the
 * revisions come first, page by page, and then the entries that we ask for.
 */
export async function syncEntries(
  connection: Connection,
  held: readonly HeldEntry[],
  signal: AbortSignal,
): Promise<SyncedEntries> {
  const call = connection.entries.syncAuthorizedEntries()
  using _ = onAbort(signal, () => call.cancel())
  call.on('error', () => {})
  call.on('metadata', connection.observe)
  const responses = call[Symbol.asyncIterator]() as AsyncIterator<SyncAuthorizedEntriesResponse>
  const ask = async (request: SyncAuthorizedEntriesRequest) => {
    call.write(request)
    return await readAnswer(responses)
  }
  try {
    return await converse(ask, new Map(held.map((entry) => [entry.id, entry])))
  } catch (error) {
    signal.throwIfAborted()
    throw refusalOf(error)
  } finally {
    call.cancel()
  }
}

type Ask = (request: SyncAuthorizedEntriesRequest) => Promise<Answer>

interface Answer {
  readonly entries: readonly Entry[]
  readonly revisions: readonly EntryRevision[]
  /** How many items the sentry puts into one message. */
  readonly pageSize: number
}

async function converse(ask: Ask, held: ReadonlyMap<string, HeldEntry>): Promise<SyncedEntries> {
  const { entries, revisions, pageSize } = await ask({ outputMask: mask, ids: [] })
  if (revisions.length === 0) return { unchanged: [], changed: entries }

  const unchanged = revisions.flatMap((revision) => fresh(held.get(revision.id), revision))
  const known = new Set(unchanged.map(({ id }) => id))
  const wanted = revisions.map(({ id }) => id).filter((id) => id !== '' && !known.has(id))
  const changed: Entry[] = []
  for (const ids of pagesOf(wanted.sort(), pageSize)) {
    const answer = await ask({ outputMask: undefined, ids })
    if (answer.revisions.length > 0) throw unusable('revisions came where entries were asked for')
    changed.push(...answer.entries)
  }
  return { unchanged, changed }
}

/** Reads messages until the sentry says that no more belong to the answer. */
async function readAnswer(
  responses: AsyncIterator<SyncAuthorizedEntriesResponse>,
): Promise<Answer> {
  const pages: SyncAuthorizedEntriesResponse[] = []
  do {
    const { done, value } = await responses.next()
    if (done) throw unusable('sentry ended the list of entries before its end')
    pages.push(value)
  } while (pages.at(-1)?.more)

  const entries = pages.flatMap((page) => page.entries)
  const revisions = pages.flatMap((page) => page.entryRevisions)
  if (entries.length > 0 && revisions.length > 0) throw unusable('entries and revisions came mixed')
  return { entries, revisions, pageSize: pages[0]?.entryRevisions.length ?? 0 }
}

/** The entry we hold, unless it has changed or was deleted and created again. */
function fresh(entry: HeldEntry | undefined, revision: EntryRevision): HeldEntry[] {
  if (!entry || entry.revision !== revision.revisionNumber) return []
  const bothDated = entry.createdAt > 0n && revision.createdAt > 0n
  return bothDated && entry.createdAt !== revision.createdAt ? [] : [entry]
}

function pagesOf(ids: readonly string[], size: number): string[][] {
  const pages: string[][] = []
  for (let at = 0; at < ids.length; at += Math.max(1, size)) {
    pages.push(ids.slice(at, at + Math.max(1, size)))
  }
  return pages
}

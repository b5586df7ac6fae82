import type {
  BatchCreateEntryRequest,
  BatchCreateEntryResponse,
  BatchDeleteEntryRequest,
  BatchDeleteEntryResponse,
  BatchUpdateEntryRequest,
  BatchUpdateEntryResponse,
  EntryServer,
  GetEntryRequest,
  ListEntriesRequest,
  ListEntriesResponse,
} from '../../proto/gen/spire/api/server/entry/v1/entry.js'
import type { Entry } from '../../proto/gen/spire/api/types/types.js'
import { makeSpiffeId } from '../../spiffe/index.js'
import type { Draft } from '../datastore/draft.js'
import { SentryError } from '../errors.js'
import { entryTable, plainEntry, type RegistrationEntry } from '../registration/entry.js'
import { type Creation, createEntry, deleteEntry, updateEntry } from '../registration/register.js'
import { type ApiContext, agentIdOf } from './context.js'
import { entryFilter } from './entry-filter.js'
import { recordEntry } from './entry-record.js'
import { syncAuthorizedEntries } from './entry-sync.js'
import type { CallContext, ServerCalls } from './server-calls.js'
import { eachItem, inSlices, okStatus, refusedStatus } from './wire/batch.js'
import { entryFromWire, maskedEntry } from './wire/entry.js'
import { pageOf } from './wire/page.js'
import { prefixed } from './wire/prefixed.js'

/** Items of a batch that are decided on and stored at once. */
const SLICE = 200

/** `spire.api.server.entry.v1.Entry`. */
export function entryService(context: ApiContext, calls: ServerCalls): EntryServer {
  const { authorized } = context
  return {
    countEntries: calls.unary(({ filter }) => {
      const keep = entryFilter(filter, context.trustDomain)
      return { count: [...context.datastore.view(entryTable).values()].filter(keep).length }
    }),
    listEntries: calls.unary((request) => listEntries(context, request)),
    getEntry: calls.unary((request) => getEntry(context, request)),
    batchCreateEntry: calls.unary((request, call) => createEntries(context, request, call)),
    batchUpdateEntry: calls.unary((request, call) => updateEntries(context, request, call)),
    batchDeleteEntry: calls.unary((request, call) => deleteEntries(context, request, call)),
    getAuthorizedEntries: calls.unary(async ({ outputMask }, call) => {
      await context.limits.take('read', call)
      const entries = authorized.of(agentIdOf(call.caller)).values()
      return { entries: Array.from(entries, (entry) => maskedEntry(entry, outputMask)) }
    }),
    syncAuthorizedEntries: calls.bidirectional(async (stream) => {
      await context.limits.take('read', stream)
      await syncAuthorizedEntries(authorized.of(agentIdOf(stream.caller)), stream)
    }),
  }
}

function listEntries(
  { datastore, trustDomain }: ApiContext,
  request: ListEntriesRequest,
): ListEntriesResponse {
  const entries = datastore.view(entryTable)
  const rowsAfter = (position: number) => entries.createdAfter(position)
  const keep = entryFilter(request.filter, trustDomain)
  const { items, nextPageToken } = pageOf(rowsAfter, request, keep)
  return { entries: items.map((entry) => maskedEntry(entry, request.outputMask)), nextPageToken }
}

function getEntry({ datastore }: ApiContext, { id, outputMask }: GetEntryRequest): Entry {
  if (id === '') throw new SentryError('CS_REQUEST_INVALID', 'missing ID')
  const entry = datastore.view(entryTable).get(id)
  if (!entry) throw new SentryError('CS_ENTRY_NOT_FOUND', 'entry not found')
  return maskedEntry(entry, outputMask)
}

async function createEntries(
  context: ApiContext,
  { entries, outputMask }: BatchCreateEntryRequest,
  call: CallContext,
): Promise<BatchCreateEntryResponse> {
  const create = (draft: Draft, wire: Entry) => {
    const entry = prefixed('failed to convert entry', () => newEntry(context, wire))
    return prefixed('failed to create entry', () => createEntry(draft, entry))
  }
  const results: BatchCreateEntryResponse['results'] = []
  for (const slice of inSlices(entries, SLICE)) {
    const { value: outcomes } = await context.datastore.write((draft) =>
      eachItem(
        slice,
        (wire) => create(draft, wire),
        (status): Refused => ({ kind: 'refused', status }),
      ),
    )
    for (const outcome of outcomes) {
      if (outcome.kind === 'created') recordEntry(context, call, { change: 'created', ...outcome })
      results.push(creationResult(outcome, outputMask))
    }
  }
  await context.audit.settled()
  return { results }
}

interface Refused {
  readonly kind: 'refused'
  readonly status: ReturnType<typeof refusedStatus>
}

function creationResult(
  outcome: Creation | Refused,
  outputMask: BatchCreateEntryRequest['outputMask'],
): BatchCreateEntryResponse['results'][number] {
  switch (outcome.kind) {
    case 'refused':
      return { status: outcome.status, entry: undefined }
    case 'created':
      return { status: okStatus(), entry: maskedEntry(outcome.entry, outputMask) }
    case 'similar': {
      const similar = new SentryError('CS_ENTRY_EXISTS', 'similar entry already exists')
      return { status: refusedStatus(similar), entry: maskedEntry(outcome.entry, outputMask) }
    }
  }
}

async function updateEntries(
  context: ApiContext,
  { entries, inputMask, outputMask }: BatchUpdateEntryRequest,
  call: CallContext,
): Promise<BatchUpdateEntryResponse> {
  const { trustDomain, datastore } = context
  const update = (draft: Draft, wire: Entry) => {
    const held = draft.table(entryTable).get(wire.id)
    // SPIRE names the step here and not what was missing.
    if (!held) throw new SentryError('CS_ENTRY_NOT_FOUND', 'failed to update entry')
    const changed = prefixed('failed to convert entry', () =>
      entryFromWire(wire, { held, mask: inputMask, trustDomain }),
    )
    return prefixed('failed to update entry', () => updateEntry(draft, changed))
  }
  const results: BatchUpdateEntryResponse['results'] = []
  for (const slice of inSlices(entries, SLICE)) {
    const { value: outcomes } = await datastore.write((draft) =>
      eachItem(
        slice,
        (wire) => ({ entry: update(draft, wire), status: okStatus() }),
        (status) => ({ entry: undefined, status }),
      ),
    )
    for (const { entry, status } of outcomes) {
      if (entry) recordEntry(context, call, { change: 'updated', entry })
      results.push({ status, entry: entry && maskedEntry(entry, outputMask) })
    }
  }
  await context.audit.settled()
  return { results }
}

async function deleteEntries(
  context: ApiContext,
  { ids }: BatchDeleteEntryRequest,
  call: CallContext,
): Promise<BatchDeleteEntryResponse> {
  const results: BatchDeleteEntryResponse['results'] = []
  for (const slice of inSlices(ids, SLICE)) {
    const { value: outcomes } = await context.datastore.write((draft) =>
      eachItem(
        slice,
        (id) => {
          if (id === '') throw new SentryError('CS_REQUEST_INVALID', 'missing entry ID')
          return { id, status: okStatus(), entry: deleteEntry(draft, id) }
        },
        (status, id) => ({ id, status, entry: undefined }),
      ),
    )
    for (const { id, status, entry } of outcomes) {
      if (entry) recordEntry(context, call, { change: 'deleted', entry })
      results.push({ id, status })
    }
  }
  await context.audit.settled()
  return { results }
}

function newEntry({ trustDomain, random, clock }: ApiContext, wire: Entry): RegistrationEntry {
  const unset = makeSpiffeId(trustDomain, '')
  const held = plainEntry({
    id: wire.id === '' ? random.uuid() : wire.id,
    spiffeId: unset,
    parentId: unset,
    selectors: [],
    createdAt: BigInt(Math.floor(clock.now().getTime() / 1000)),
  })
  return entryFromWire(wire, { held, mask: undefined, trustDomain })
}

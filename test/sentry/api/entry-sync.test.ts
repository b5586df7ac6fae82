import { status } from '@grpc/grpc-js'
import { expect, test } from 'vitest'
import {
  EntryClient,
  type SyncAuthorizedEntriesRequest,
} from '../../../proto/gen/spire/api/server/entry/v1/entry.js'
import { Entry, EntryMask } from '../../../proto/gen/spire/api/types/types.js'
import { pathOf, type SpiffeId } from '../../../spiffe/index.js'
import {
  ask,
  nextOf,
  refusalOf,
  type TestSentry,
  testSentry,
  trustDomain,
} from '../running-sentry.js'

async function withEntries(test: TestSentry, count: number) {
  const agent = await test.attest()
  const entries = Array.from({ length: count }, (_, index) =>
    Entry.create({
      id: `entry-${index}`,
      spiffeId: { trustDomain, path: `/app-${index}` },
      parentId: { trustDomain, path: pathOf(agent.id as SpiffeId) },
      selectors: [{ type: 'unix', value: `uid:${index}` }],
    }),
  )
  const request = { entries, outputMask: EntryMask.create() }
  const { results } = await ask(test.local(EntryClient), 'batchCreateEntry', request)
  expect(results.every(({ status }) => status?.code === 0)).toBe(true)
  return test.remote(EntryClient, agent.svid)
}

const first = (fields: Partial<SyncAuthorizedEntriesRequest> = {}) => ({
  outputMask: undefined,
  ids: [],
  ...fields,
})

test.each([0, 1, 500])(
  '%i entries come whole in one message, and the stream ends',
  async (count) => {
    await using test = await testSentry()
    const call = (await withEntries(test, count)).syncAuthorizedEntries()
    call.write(first())
    const message = await nextOf(call)
    expect(message?.entries).toHaveLength(count)
    expect(message).toMatchObject({ entryRevisions: [], more: false })
    expect(await nextOf(call)).toBeUndefined()
  },
)

test('of more than 500 entries the revisions come first, and then those that are asked for', async () => {
  await using test = await testSentry()
  const client = await withEntries(test, 1100)
  const call = client.syncAuthorizedEntries()
  const outputMask = EntryMask.create({ spiffeId: true, revisionNumber: true })
  call.write(first({ outputMask }))
  const pages = [await nextOf(call), await nextOf(call), await nextOf(call)]
  expect(
    pages.map((page) => [page?.entryRevisions.length, page?.entries.length, page?.more]),
  ).toEqual([
    [500, 0, true],
    [500, 0, true],
    [100, 0, false],
  ])
  expect(pages[0]?.entryRevisions[0]).toMatchObject({ id: 'entry-0', revisionNumber: 0n })
  expect(pages[0]?.entryRevisions[0]?.createdAt).toBeGreaterThan(0n)

  const ids = Array.from({ length: 700 }, (_, index) => `entry-${index}`)
  call.write(first({ ids: [...ids, 'nobody'] }))
  const some = [await nextOf(call), await nextOf(call)]
  expect(some.map((page) => [page?.entries.length, page?.more])).toEqual([
    [500, true],
    [200, false],
  ])
  expect(some[0]?.entries[0]).toEqual(
    Entry.create({ id: 'entry-0', spiffeId: { trustDomain, path: '/app-0' } }),
  )
  call.write(first({ ids: ['nobody'] }))
  expect(await nextOf(call)).toEqual({ entries: [], entryRevisions: [], more: false })
  call.end()
  expect(await nextOf(call)).toBeUndefined()
})

test('a stream that is cancelled half-way harms nobody', async () => {
  await using test = await testSentry()
  const client = await withEntries(test, 600)
  const call = client.syncAuthorizedEntries()
  call.write(first())
  await nextOf(call)
  call.cancel()
  const again = client.syncAuthorizedEntries()
  again.write(first())
  expect((await nextOf(again))?.entryRevisions).toHaveLength(500)
  again.cancel()
})

test('the first message may not ask for ids, nor mask the revision', async () => {
  await using test = await testSentry()
  const client = await withEntries(test, 1)
  const refused = async (message: SyncAuthorizedEntriesRequest) => {
    const call = client.syncAuthorizedEntries()
    call.write(message)
    const refusal = await refusalOf(nextOf(call))
    expect(refusal.status).toBe(status.INVALID_ARGUMENT)
    return refusal.message
  }
  expect(await refused(first({ ids: ['x'] }))).toBe(
    'specifying IDs on initial request is not supported',
  )
  expect(await refused(first({ outputMask: EntryMask.create({ spiffeId: true }) }))).toBe(
    'revision number cannot be masked',
  )
})

import { status } from '@grpc/grpc-js'
import { expect, test } from 'vitest'
import { BundleClient } from '../../../proto/gen/spire/api/server/bundle/v1/bundle.js'
import {
  EntryClient,
  ListEntriesRequest_Filter,
} from '../../../proto/gen/spire/api/server/entry/v1/entry.js'
import {
  Bundle,
  Entry,
  EntryMask,
  FederatesWithMatch_MatchBehavior as Federates,
  SelectorMatch_MatchBehavior as Match,
} from '../../../proto/gen/spire/api/types/types.js'
import { fakeClock } from '../../support/fake-clock.js'
import { until } from '../../support/until.js'
import { ask, refusalOf, type TestSentry, testSentry, trustDomain } from '../running-sentry.js'

type Fields = Parameters<typeof Entry.create>[0]

const id = (path: string) => ({ trustDomain, path })
const unix = (value: string) => ({ type: 'unix', value })

/** An entry that is right in every respect, but for what is given. */
const entry = (fields: Fields = {}): Entry =>
  Entry.create({
    spiffeId: id('/app'),
    parentId: id('/node'),
    selectors: [unix('uid:1000')],
    ...fields,
  })

async function create(test: TestSentry, ...entries: Entry[]) {
  const request = { entries, outputMask: undefined }
  return (await ask(test.local(EntryClient), 'batchCreateEntry', request)).results
}

async function federate(test: TestSentry, ...names: string[]) {
  const bundle = names.map((name) => Bundle.create({ trustDomain: name }))
  const request = { bundle, outputMask: undefined }
  await ask(test.local(BundleClient), 'batchSetFederatedBundle', request)
}

test('an entry comes back as it was sent, with what the sentry adds', async () => {
  await using test = await testSentry()
  await federate(test, 'partner.example')
  const sent = entry({
    x509SvidTtl: 60,
    jwtSvidTtl: 30,
    federatesWith: ['partner.example'],
    admin: true,
    downstream: true,
    storeSvid: false,
    expiresAt: 4_000_000_000n,
    dnsNames: ['app.shop.svc', '*.shop.svc'],
    hint: 'internal',
    additionalAttributes: { jwtSvidIncludeJti: true },
    revisionNumber: 17n,
    createdAt: 1n,
  })
  const [result] = await create(test, sent)
  expect(result?.status).toEqual({ code: status.OK, message: 'OK' })
  const made = result?.entry
  expect(made?.id).toMatch(/^[0-9a-f-]{36}$/)
  expect(made?.createdAt).toBeGreaterThan(1_700_000_000n)
  expect(made).toEqual({ ...sent, id: made?.id, revisionNumber: 0n, createdAt: made?.createdAt })
  const shown = await ask(test.local(EntryClient), 'getEntry', {
    id: made?.id ?? '',
    outputMask: undefined,
  })
  expect(shown).toEqual(made)
})

test('present but empty attributes are not the same as none', async () => {
  await using test = await testSentry()
  const results = await create(
    test,
    entry({ spiffeId: id('/a'), additionalAttributes: {} }),
    entry({ spiffeId: id('/b') }),
  )
  expect(results.map(({ entry }) => entry?.additionalAttributes)).toEqual([
    { disableX509SvidPrefetch: false, jwtSvidIncludeJti: false },
    undefined,
  ])
})

interface Refused {
  readonly what: string
  readonly fields: Fields
  readonly code?: status
  readonly message: string
}

const refusals: readonly Refused[] = [
  {
    what: 'without a parent (ID-41)',
    fields: { parentId: undefined },
    message: 'failed to convert entry: invalid parent ID: request must specify SPIFFE ID',
  },
  {
    what: 'with a parent in another trust domain (ID-42)',
    fields: { parentId: { trustDomain: 'other.example', path: '/node' } },
    message: 'failed to convert entry: invalid parent ID: ',
  },
  {
    what: 'with a parent without a path',
    fields: { parentId: id('') },
    message: 'failed to convert entry: invalid parent ID: ',
  },
  {
    what: 'without an ID',
    fields: { spiffeId: undefined },
    message: 'failed to convert entry: invalid spiffe ID: request must specify SPIFFE ID',
  },
  {
    what: 'with an ID in another trust domain (ID-42)',
    fields: { spiffeId: { trustDomain: 'other.example', path: '/app' } },
    message: 'failed to convert entry: invalid spiffe ID: ',
  },
  {
    what: 'with the ID of the trust domain',
    fields: { spiffeId: id('') },
    message: 'failed to convert entry: invalid spiffe ID: ',
  },
  {
    what: 'with a reserved ID',
    fields: { spiffeId: id('/spire/server') },
    message: 'failed to convert entry: invalid spiffe ID: ',
  },
  {
    what: 'with the root of the reserved IDs',
    fields: { spiffeId: id('/spire') },
    message: 'failed to convert entry: invalid spiffe ID: ',
  },
  {
    what: 'with an ID that steps up',
    fields: { spiffeId: id('/a/../spire/server') },
    message: 'failed to convert entry: invalid spiffe ID: ',
  },
  {
    what: 'with an ID of 2049 bytes (ID-24)',
    fields: { spiffeId: id(`/${'a'.repeat(2049 - 'spiffe://prod.example/'.length)}`) },
    message: 'failed to convert entry: invalid spiffe ID: ',
  },
  {
    what: 'without selectors',
    fields: { selectors: [] },
    message: 'failed to convert entry: selector list is empty',
  },
  {
    what: 'with a selector without a type',
    fields: { selectors: [{ type: '', value: 'x' }] },
    message: 'failed to convert entry: missing selector type',
  },
  {
    what: 'with a colon in the type of a selector',
    fields: { selectors: [{ type: 'unix:uid', value: '1' }] },
    message: "failed to convert entry: selector type contains ':'",
  },
  {
    what: 'with a selector without a value',
    fields: { selectors: [unix('')] },
    message: 'failed to convert entry: missing selector value',
  },
  {
    what: 'with a hint of 1025 bytes in fewer characters',
    fields: { hint: `${'é'.repeat(512)}x` },
    message: 'failed to convert entry: hint is too long, max length is 1024 characters',
  },
  {
    what: 'with a DNS name that ends in a dot',
    fields: { dnsNames: ['app.svc.'] },
    message: 'failed to convert entry: invalid DNS name: ',
  },
  {
    what: 'with a DNS name with a star inside a label',
    fields: { dnsNames: ['a*.svc.local'] },
    message: 'failed to convert entry: invalid DNS name: ',
  },
  {
    what: 'that federates with no trust domain',
    fields: { federatesWith: ['Partner.Example'] },
    message: 'failed to convert entry: invalid federated trust domain: ',
  },
  {
    what: 'that federates with its own trust domain',
    fields: { federatesWith: ['prod.example'] },
    message: 'failed to convert entry: invalid federated trust domain: ',
  },
  {
    what: 'that federates with a trust domain without a bundle',
    fields: { spiffeId: id('/federated'), federatesWith: ['unknown.example'] },
    code: status.INTERNAL,
    message: 'failed to create entry: unable to find federated bundle "spiffe://unknown.example"',
  },
  {
    what: 'with an id of 256 characters',
    fields: { id: 'a'.repeat(256) },
    message: 'failed to create entry: ',
  },
  {
    what: 'with an id that is not made of letters, digits and dashes',
    fields: { id: 'a/b' },
    message: 'failed to create entry: ',
  },
  {
    what: 'with a negative lifetime',
    fields: { x509SvidTtl: -1 },
    message: 'failed to create entry: ',
  },
  {
    what: 'that is to be stored and has selectors of two types',
    fields: { storeSvid: true, selectors: [unix('uid:1'), { type: 'k8s', value: 'ns:a' }] },
    message: 'failed to create entry: ',
  },
  {
    what: 'that is to be stored but not fetched',
    fields: { storeSvid: true, additionalAttributes: { disableX509SvidPrefetch: true } },
    message: 'failed to create entry: ',
  },
  {
    what: 'with a selector twice',
    fields: { selectors: [unix('uid:1'), unix('uid:1')] },
    code: status.ALREADY_EXISTS,
    message: 'failed to create entry: ',
  },
]

test('an entry that breaks a rule is refused by item, and the others are made', async () => {
  await using test = await testSentry()
  const bad = refusals.map(({ fields }) => entry(fields))
  const results = await create(test, entry(), ...bad, entry({ spiffeId: id('/other') }))
  expect([results[0]?.status?.code, results.at(-1)?.status?.code]).toEqual([0, 0])
  for (const [index, { what, code = status.INVALID_ARGUMENT, message }] of refusals.entries()) {
    const result = results[index + 1]
    expect.soft(result?.status?.code, what).toBe(code)
    expect.soft(result?.status?.message, what).toContain(message)
    expect.soft(result?.entry, what).toBeUndefined()
  }
})

test('limits are in: an ID of 2048 bytes (ID-23), a hint of 1024, an id of 255', async () => {
  await using test = await testSentry()
  const [result] = await create(
    test,
    entry({
      id: 'a'.repeat(255),
      spiffeId: id(`/${'a'.repeat(2048 - 'spiffe://prod.example/'.length)}`),
      hint: 'é'.repeat(512),
    }),
  )
  expect(result?.status?.message).toBe('OK')
})

test('a similar entry is not made again, and the one that is there comes back', async () => {
  await using test = await testSentry()
  const two = [unix('uid:1'), unix('gid:1')]
  const [first] = await create(test, entry({ selectors: two, hint: 'first' }))
  const [again, other] = await create(
    test,
    entry({ id: 'mine', selectors: two.toReversed(), hint: 'second' }),
    entry({ selectors: [unix('uid:1')] }),
  )
  expect(again?.status).toEqual({
    code: status.ALREADY_EXISTS,
    message: 'similar entry already exists',
  })
  expect(again?.entry).toEqual(first?.entry)
  expect(other?.status?.code).toBe(status.OK)
})

test('similar entries in one batch are similar, and an id is taken only once', async () => {
  await using test = await testSentry()
  const results = await create(
    test,
    entry({ id: 'a' }),
    entry({ id: 'b' }),
    entry({ id: 'a', spiffeId: id('/other') }),
  )
  expect(results.map(({ status, entry }) => [status?.code, entry?.id])).toEqual([
    [status.OK, 'a'],
    [status.ALREADY_EXISTS, 'a'],
    [status.ALREADY_EXISTS, undefined],
  ])
})

test('the probe of the controller manager finds every field that it looks for', async () => {
  await using test = await testSentry()
  const path = '/spire-controller-manager/unsupported-fields-test'
  const probe = entry({
    spiffeId: id(path),
    parentId: id(path),
    selectors: [{ type: 'a', value: '1' }],
    x509SvidTtl: 60,
    jwtSvidTtl: 60,
    storeSvid: true,
    hint: 'hint',
  })
  for (const code of [status.OK, status.ALREADY_EXISTS]) {
    const [result] = await create(test, probe)
    expect(result?.status?.code).toBe(code)
    expect(result?.entry).toMatchObject({ jwtSvidTtl: 60, hint: 'hint', storeSvid: true })
  }
})

test('an update without a mask replaces all, and grows the revision even if nothing changes', async () => {
  await using test = await testSentry()
  const client = test.local(EntryClient)
  const [made] = await create(
    test,
    entry({ id: 'app', hint: 'old', admin: true, additionalAttributes: {} }),
  )
  const update = async (fields: Fields, inputMask?: EntryMask) =>
    (
      await ask(client, 'batchUpdateEntry', {
        entries: [entry({ id: 'app', ...fields })],
        inputMask,
        outputMask: undefined,
      })
    ).results[0]
  const whole = await update({ selectors: [unix('uid:2')] })
  expect(whole?.entry).toMatchObject({
    hint: '',
    admin: false,
    additionalAttributes: undefined,
    revisionNumber: 1n,
    createdAt: made?.entry?.createdAt,
  })
  const masked = await update(
    { hint: 'new', spiffeId: undefined, selectors: [] },
    EntryMask.create({ hint: true }),
  )
  expect(masked?.entry).toMatchObject({
    hint: 'new',
    spiffeId: id('/app'),
    selectors: [unix('uid:2')],
    revisionNumber: 2n,
  })
  expect((await update({ hint: 'new', selectors: [unix('uid:2')] }))?.entry?.revisionNumber).toBe(
    3n,
  )
  expect((await update({ selectors: [] }))?.status?.message).toContain('failed to convert entry')
})

test('updating and deleting what is not there is told by item', async () => {
  await using test = await testSentry()
  const client = test.local(EntryClient)
  await create(test, entry({ id: 'app' }))
  const updated = await ask(client, 'batchUpdateEntry', {
    entries: [entry({ id: 'nobody' })],
    inputMask: undefined,
    outputMask: undefined,
  })
  expect(updated.results[0]?.status).toEqual({
    code: status.NOT_FOUND,
    message: 'failed to update entry',
  })
  const deleted = await ask(client, 'batchDeleteEntry', { ids: ['', 'nobody', 'app', 'app'] })
  expect(deleted.results).toEqual([
    { id: '', status: { code: status.INVALID_ARGUMENT, message: 'missing entry ID' } },
    { id: 'nobody', status: { code: status.NOT_FOUND, message: 'entry not found' } },
    { id: 'app', status: { code: status.OK, message: 'OK' } },
    { id: 'app', status: { code: status.NOT_FOUND, message: 'entry not found' } },
  ])
  const shown = await refusalOf(ask(client, 'getEntry', { id: 'app', outputMask: undefined }))
  expect(shown).toMatchObject({ status: status.NOT_FOUND, message: 'entry not found' })
  const unnamed = await refusalOf(ask(client, 'getEntry', { id: '', outputMask: undefined }))
  expect(unnamed).toMatchObject({ status: status.INVALID_ARGUMENT, message: 'missing ID' })
})

test('an empty batch has an empty answer', async () => {
  await using test = await testSentry()
  expect(await create(test)).toEqual([])
})

test('entries are listed by page in the order of creation, whatever was updated since', async () => {
  await using test = await testSentry()
  const client = test.local(EntryClient)
  const ids = ['c', 'a', 'd', 'b', 'e']
  await create(test, ...ids.map((name) => entry({ id: name, spiffeId: id(`/${name}`) })))
  await ask(client, 'batchUpdateEntry', {
    entries: [entry({ id: 'c', spiffeId: id('/c'), hint: 'x' })],
    inputMask: undefined,
    outputMask: undefined,
  })
  const pages: string[][] = []
  let pageToken = ''
  do {
    const request = { filter: undefined, outputMask: undefined, pageSize: 2, pageToken }
    const answer = await ask(client, 'listEntries', request)
    pages.push(answer.entries.map(({ id }) => id))
    pageToken = answer.nextPageToken
  } while (pageToken !== '')
  expect(pages).toEqual([['c', 'a'], ['d', 'b'], ['e'], []])
})

test('entries are filtered and counted by every condition', async () => {
  await using test = await testSentry()
  const client = test.local(EntryClient)
  await federate(test, 'p.example', 'q.example')
  await create(
    test,
    entry({ id: '1', hint: 'h', downstream: true, federatesWith: ['p.example'] }),
    entry({ id: '2', spiffeId: id('/b'), selectors: [unix('uid:1000'), unix('gid:5')] }),
    entry({
      id: '3',
      parentId: id('/other'),
      federatesWith: ['p.example', 'q.example'],
      selectors: [unix('gid:5')],
    }),
  )
  const found = async (filter: Parameters<typeof ListEntriesRequest_Filter.create>[0]) => {
    const { entries } = await ask(client, 'listEntries', {
      filter: ListEntriesRequest_Filter.create(filter),
      outputMask: undefined,
      pageSize: 0,
      pageToken: '',
    })
    const { count } = await ask(client, 'countEntries', {
      filter: ListEntriesRequest_Filter.create(filter),
    })
    expect(count).toBe(entries.length)
    return entries.map(({ id }) => id).join('')
  }
  const selectors = [unix('uid:1000'), unix('gid:5')]
  const trustDomains = ['p.example']
  expect(await found({})).toBe('123')
  expect(await found({ bySpiffeId: id('/b') })).toBe('2')
  expect(await found({ byParentId: id('/other') })).toBe('3')
  expect(await found({ byHint: 'h' })).toBe('1')
  expect(await found({ byHint: '' })).toBe('123')
  expect(await found({ byDownstream: true })).toBe('1')
  expect(await found({ byDownstream: false })).toBe('123')
  expect(await found({ bySelectors: { selectors, match: Match.MATCH_EXACT } })).toBe('2')
  expect(await found({ bySelectors: { selectors, match: Match.MATCH_SUBSET } })).toBe('123')
  expect(await found({ bySelectors: { selectors, match: Match.MATCH_SUPERSET } })).toBe('2')
  const one = [unix('gid:5')]
  expect(await found({ bySelectors: { selectors: one, match: Match.MATCH_ANY } })).toBe('23')
  expect(await found({ byFederatesWith: { trustDomains, match: Federates.MATCH_EXACT } })).toBe('1')
  expect(await found({ byFederatesWith: { trustDomains, match: Federates.MATCH_SUPERSET } })).toBe(
    '13',
  )
  expect(await found({ bySpiffeId: id('/b'), byHint: 'h' })).toBe('')

  const malformed = [
    [{ bySpiffeId: { trustDomain: 'x.example', path: '/b' } }, 'malformed SPIFFE ID filter'],
    [{ byParentId: id('') }, 'malformed parent ID filter'],
    [{ bySelectors: { selectors: [], match: 0 } }, 'malformed selectors filter'],
    [{ byFederatesWith: { trustDomains: [], match: 0 } }, 'malformed federates with filter'],
  ] as const
  for (const [filter, message] of malformed) {
    const refusal = await refusalOf(found(filter as never))
    expect(refusal.status).toBe(status.INVALID_ARGUMENT)
    expect(refusal.message).toContain(message)
  }
})

test('a mask without a bit leaves the id alone', async () => {
  await using test = await testSentry()
  await create(test, entry({ id: 'app', hint: 'h' }))
  const shown = await ask(test.local(EntryClient), 'getEntry', {
    id: 'app',
    outputMask: EntryMask.create(),
  })
  expect(shown).toEqual(Entry.create({ id: 'app' }))
})

test('an entry whose time is over is taken away by the clock', async () => {
  const clock = fakeClock(new Date())
  await using test = await testSentry({ clock })
  const seconds = BigInt(Math.floor(clock.now().getTime() / 1000))
  await create(
    test,
    entry({ id: 'short', expiresAt: seconds + 60n }),
    entry({ id: 'long', spiffeId: id('/b'), expiresAt: seconds + 600n }),
  )
  await clock.advance(75_000)
  await until(() => test.sentry.status().entries === 1)
  await clock.advance(540_000)
  await until(() => test.sentry.status().entries === 0)
})

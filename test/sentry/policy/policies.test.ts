import { expect, test } from 'vitest'
import { silentLog } from '../../../platform/log.js'
import { type Datastore, openDatastore } from '../../../sentry/datastore/datastore.js'
import { openSqlite } from '../../../sentry/datastore/sqlite.js'
import { SentryError } from '../../../sentry/errors.js'
import { policies } from '../../../sentry/policy/policies.js'
import { policyTable, policyTargetTable } from '../../../sentry/policy/policy-record.js'
import { entryTable, plainEntry } from '../../../sentry/registration/entry.js'
import { makeSpiffeId, parseTrustDomain } from '../../../spiffe/index.js'
import { fakeClock } from '../../support/fake-clock.js'
import { lineCompiler } from '../../support/policy-compiler.js'
import { type TempFolder, tempFolder } from '../../support/temp-folder.js'

const trustDomain = parseTrustDomain('prod.example')
const shop = makeSpiffeId(trustDomain, '/shop')
const full = new SentryError('CS_DATASTORE_UNAVAILABLE', 'no space left')

/** A datastore that takes so many writes more, and then none until it is told otherwise. */
function failing(store: Datastore) {
  let left = Number.POSITIVE_INFINITY
  const datastore: Datastore = Object.assign(Object.create(store) as Datastore, {
    write: (decide: Parameters<Datastore['write']>[0]) => {
      left -= 1
      return left < 0 ? Promise.reject(full) : store.write(decide)
    },
  })
  return { datastore, failAfter: (writes: number) => void (left = writes) }
}

async function build(folder: TempFolder) {
  const clock = fakeClock()
  const store = await openDatastore({
    dialect: await openSqlite(folder.file('sentry.db')),
    tables: [entryTable, policyTable, policyTargetTable],
    trustDomain,
    clock,
    log: silentLog,
  })
  const { datastore, failAfter } = failing(store)
  const documents = policies({ datastore, compiler: lineCompiler(), clock, log: silentLog })
  await store.write((draft) => {
    const selectors = [{ type: 'unix', value: 'uid:1' }]
    draft
      .table(entryTable)
      .put(plainEntry({ id: 'e', spiffeId: shop, parentId: shop, selectors, createdAt: 0n }))
  })
  await documents.settled()
  return { store, documents, failAfter }
}

const enforced = (documents: ReturnType<typeof policies>) => {
  const { content = '{}' } = documents.snapshotOf(shop) ?? {}
  return (JSON.parse(content) as { policies: string[] }).policies
}

const request = { text: 'a shop deny', source: 'test', dryRun: false }

test('a policy that is stored but could not be compiled is said to be so, and compiled by applying it again', async () => {
  await using folder = await tempFolder()
  const { store, documents, failAfter } = await build(folder)
  await using _store = store
  failAfter(1)
  const change = await documents.apply(request)
  expect([change.failure, change.outcomes.length, change.changedTargets.size]).toEqual([full, 1, 0])
  expect([documents.documents().length, enforced(documents)]).toEqual([1, []])

  failAfter(2)
  const again = await documents.apply(request)
  expect([again.failure, [...again.changedTargets.keys()]]).toEqual([undefined, [shop]])
  expect(enforced(documents)).toEqual(['deny'])
})

test('what could not be compiled is compiled when it is tried again', async () => {
  await using folder = await tempFolder()
  const { store, documents, failAfter } = await build(folder)
  await using _store = store
  failAfter(1)
  await documents.apply(request)
  await expect(documents.compileDue()).rejects.toBe(full)
  failAfter(1)
  await documents.compileDue()
  expect(enforced(documents)).toEqual(['deny'])
})

test('a document that another needs is not removed, unless both go', async () => {
  await using folder = await tempFolder()
  const { store, documents } = await build(folder)
  await using _store = store
  await documents.apply({ ...request, text: 'a shop one\nb shop needs a' })
  const ref = (name: string) => ({ kind: 'AccessPolicy', namespace: 'shop', name })
  await expect(documents.remove([ref('a')])).rejects.toMatchObject({ code: 'CS_POLICY_INVALID' })
  expect(enforced(documents)).toEqual(['one', 'needs a'])
  const { changedTargets } = await documents.remove([ref('a'), ref('b')])
  expect([changedTargets.size, enforced(documents)]).toEqual([1, []])
})

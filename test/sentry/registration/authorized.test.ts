import fc from 'fast-check'
import { expect, test } from 'vitest'
import { silentLog } from '../../../platform/log.js'
import { type AgentRecord, agentTable } from '../../../sentry/attestation/agent-record.js'
import { type Datastore, openDatastore } from '../../../sentry/datastore/datastore.js'
import type { Draft } from '../../../sentry/datastore/draft.js'
import { openSqlite } from '../../../sentry/datastore/sqlite.js'
import { authorizedEntries } from '../../../sentry/registration/authorized.js'
import {
  entryTable,
  plainEntry,
  type RegistrationEntry,
} from '../../../sentry/registration/entry.js'
import { selectorText } from '../../../sentry/registration/selector.js'
import { makeSpiffeId, parseTrustDomain, type SpiffeId } from '../../../spiffe/index.js'
import { fakeClock } from '../../support/fake-clock.js'
import { type TempFolder, tempFolder } from '../../support/temp-folder.js'

const trustDomain = parseTrustDomain('prod.example')
const id = (path: string) => makeSpiffeId(trustDomain, path)
const server = id('/spire/server')

async function emptyStore(folder: TempFolder): Promise<Datastore> {
  return openDatastore({
    dialect: await openSqlite(folder.file('sentry.db')),
    tables: [entryTable, agentTable],
    trustDomain,
    clock: fakeClock(),
    log: silentLog,
  })
}

const agent = (name: string, ...selectors: string[]): AgentRecord => ({
  id: id(`/spire/agent/test/${name}`),
  attestationType: 'test',
  selectors: selectors.map((value) => ({ type: 'node', value })),
  current: { serialNumber: '1', notAfter: 0 },
  renewed: undefined,
  expiresAt: 0,
  canReattest: true,
  version: '',
})

const entry = (name: string, parentId: SpiffeId, path: string, ...selectors: string[]) =>
  plainEntry({
    id: name,
    spiffeId: id(path),
    parentId,
    selectors: selectors.map((value) => ({ type: 'node', value })),
    createdAt: 0n,
  })

const held = (entries: ReadonlyMap<string, unknown>) => [...entries.keys()].sort().join('')

test('an agent has the entries under its ID, under those, and under its aliases', async () => {
  await using folder = await tempFolder()
  await using store = await emptyStore(folder)
  const authorized = authorizedEntries(store, trustDomain)
  const one = agent('one', 'zone:a', 'rack:1')
  await store.write((draft) => {
    draft.table(agentTable).put(one)
    for (const made of [
      entry('a', one.id, '/a', 'x'),
      entry('b', id('/a'), '/b', 'x'),
      entry('c', id('/b'), '/a', 'y'),
      entry('d', id('/elsewhere'), '/d', 'x'),
      entry('e', server, '/zone-a', 'zone:a'),
      entry('f', id('/zone-a'), '/f', 'x'),
      entry('g', server, '/zone-b', 'zone:b'),
      entry('h', id('/zone-b'), '/h', 'x'),
      entry('i', server, '/rack', 'zone:a', 'rack:2'),
      entry('j', id('/rack'), '/j', 'x'),
    ]) {
      draft.table(entryTable).put(made)
    }
  })
  expect(held(authorized.of(one.id))).toBe('abcf')
  expect(held(authorized.of(id('/spire/agent/test/nobody')))).toBe('')
})

test('those that a change concerns are named, and nobody else', async () => {
  await using folder = await tempFolder()
  await using store = await emptyStore(folder)
  const authorized = authorizedEntries(store, trustDomain)
  const [one, two] = [agent('one', 'zone:a'), agent('two', 'zone:b')]
  await store.write((draft) => {
    draft.table(agentTable).put(one)
    draft.table(agentTable).put(two)
    draft.table(entryTable).put(entry('e', server, '/zone-a', 'zone:a'))
  })
  const named: string[][] = []
  authorized.onAffected((agents) => named.push([...agents]))
  await store.write((draft) => draft.table(entryTable).put(entry('f', id('/zone-a'), '/f', 'x')))
  await store.write((draft) => draft.table(entryTable).put(entry('g', id('/f'), '/g', 'x')))
  await store.write((draft) => draft.table(entryTable).put(entry('h', two.id, '/h', 'x')))
  await store.write((draft) => draft.table(entryTable).put(entry('i', id('/far'), '/i', 'x')))
  await store.write((draft) => draft.table(agentTable).put({ ...one, version: '2' }))
  expect(named).toEqual([[one.id], [one.id], [two.id]])
})

/** What the definition says, worked out each time from nothing. */
function byDefinition(store: Datastore, { id: agentId, selectors }: AgentRecord): string {
  const entries = [...store.view(entryTable).values()]
  const earned = new Set(selectors.map(selectorText))
  const found = new Set<string>()
  const seen = new Set<SpiffeId>()
  const below = (parent: SpiffeId) => {
    if (seen.has(parent)) return
    seen.add(parent)
    for (const one of entries.filter(({ parentId }) => parentId === parent)) {
      found.add(one.id)
      below(one.spiffeId)
    }
  }
  below(agentId)
  for (const alias of entries.filter(({ parentId }) => parentId === server)) {
    if (alias.selectors.every((selector) => earned.has(selectorText(selector)))) {
      below(alias.spiffeId)
    }
  }
  return [...found].sort().join('')
}

const paths = ['/a', '/b', '/c', '/d']
const agents = ['one', 'two', 'three']
const parents = [server, ...paths.map(id), ...agents.map((name) => agent(name).id)]
const selectors = fc.uniqueArray(fc.constantFrom('p', 'q', 'r'), { minLength: 1, maxLength: 2 })

const change: fc.Arbitrary<(draft: Draft) => void> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .record({
        name: fc.constantFrom('1', '2', '3', '4', '5', '6'),
        parent: fc.constantFrom(...parents),
        path: fc.constantFrom(...paths),
        selectors,
      })
      .map(({ name, parent, path, selectors }) => {
        const made: RegistrationEntry = entry(name, parent, path, ...selectors)
        return (draft: Draft) => draft.table(entryTable).put(made)
      }),
  },
  fc
    .constantFrom('1', '2', '3', '4', '5', '6')
    .map((name) => (draft: Draft) => draft.table(entryTable).remove(name)),
  fc
    .record({
      name: fc.constantFrom(...agents),
      selectors: fc.oneof(fc.constant([]), selectors),
      banned: fc.boolean(),
    })
    .map(({ name, selectors, banned }) => (draft: Draft) => {
      const made = agent(name, ...selectors)
      draft.table(agentTable).put(banned ? { ...made, current: undefined } : made)
    }),
  fc.constantFrom(...agents).map((name) => (draft: Draft) => {
    const held = draft.table(agentTable).get(agent(name).id)
    if (held) draft.table(agentTable).put({ ...held, current: undefined })
  }),
  fc
    .constantFrom(...agents)
    .map((name) => (draft: Draft) => draft.table(agentTable).remove(agent(name).id)),
)

test('after any changes what is kept equals the definition, and whoever changed was named', async () => {
  await using folder = await tempFolder()
  await using store = await emptyStore(folder)
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(change, { maxLength: 3 }), { maxLength: 12 }),
      async (writes) => {
        await store.write((draft) => {
          for (const { id } of draft.table(entryTable).values()) {
            draft.table(entryTable).remove(id)
          }
          for (const { id } of draft.table(agentTable).values()) {
            draft.table(agentTable).remove(id)
          }
        })
        const authorized = authorizedEntries(store, trustDomain)
        const named = new Set<SpiffeId>()
        authorized.onAffected((affected) => {
          for (const one of affected) named.add(one)
        })
        for (const changes of writes) {
          const before = new Map(agents.map((name) => [name, held(authorized.of(agent(name).id))]))
          named.clear()
          await store.write((draft) => {
            for (const apply of changes) apply(draft)
          })
          for (const name of agents) {
            const record = store.view(agentTable).get(agent(name).id)
            const now = held(authorized.of(agent(name).id))
            expect(now).toBe(record?.current ? byDefinition(store, record) : '')
            if (now !== before.get(name)) expect(named).toContain(agent(name).id)
          }
        }
      },
    ),
    { numRuns: 40 },
  )
}, 60_000)

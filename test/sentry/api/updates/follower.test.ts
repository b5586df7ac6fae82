import fc from 'fast-check'
import { expect, test } from 'vitest'
import { silentLog } from '../../../../platform/log.js'
import { type Follower, follower } from '../../../../sentry/api/updates/follower.js'
import { isEmptyChange, type StateChange } from '../../../../sentry/api/updates/held-state.js'
import { updatesHub } from '../../../../sentry/api/updates/hub.js'
import { type AgentRecord, agentTable } from '../../../../sentry/attestation/agent-record.js'
import { banAgent } from '../../../../sentry/attestation/agents.js'
import { type BundleRecord, bundleTable } from '../../../../sentry/bundles/bundle-record.js'
import { openDatastore } from '../../../../sentry/datastore/datastore.js'
import type { Draft } from '../../../../sentry/datastore/draft.js'
import { openSqlite } from '../../../../sentry/datastore/sqlite.js'
import { policies } from '../../../../sentry/policy/policies.js'
import { policyTable, policyTargetTable } from '../../../../sentry/policy/policy-record.js'
import { snapshotSigner } from '../../../../sentry/policy/snapshot-signer.js'
import { authorizedEntries } from '../../../../sentry/registration/authorized.js'
import { entryTable, plainEntry } from '../../../../sentry/registration/entry.js'
import { makeSpiffeId, parseTrustDomain } from '../../../../spiffe/index.js'
import { testAuthority } from '../../../support/authority.js'
import { fakeClock } from '../../../support/fake-clock.js'
import { lineCompiler } from '../../../support/policy-compiler.js'
import { type TempFolder, tempFolder } from '../../../support/temp-folder.js'

const trustDomain = parseTrustDomain('prod.example')
const id = (path: string) => makeSpiffeId(trustDomain, path)
const signer = testAuthority('prod.example').issueX509({ id: '/spire/countersign/policy-signer' })

const agents = ['one', 'two'].map(
  (name): AgentRecord => ({
    id: id(`/spire/agent/test/${name}`),
    attestationType: 'test',
    selectors: [{ type: 'node', value: name }],
    current: { serialNumber: name, notAfter: 0 },
    renewed: undefined,
    expiresAt: 0,
    canReattest: true,
    version: '',
  }),
)

const bundle = (name: string, sequence: bigint): BundleRecord => ({
  trustDomain: parseTrustDomain(name),
  x509Authorities: [],
  jwtAuthorities: [],
  refreshHint: 0n,
  sequence,
})

async function build(folder: TempFolder) {
  const clock = fakeClock()
  const store = await openDatastore({
    dialect: await openSqlite(folder.file('sentry.db')),
    tables: [entryTable, agentTable, bundleTable, policyTable, policyTargetTable],
    trustDomain,
    clock,
    log: silentLog,
  })
  await store.write((draft) => {
    for (const agent of agents) draft.table(agentTable).put(agent)
    draft.table(bundleTable).put(bundle('prod.example', 1n))
  })
  const documents = policies({ datastore: store, compiler: lineCompiler(), clock, log: silentLog })
  const parts = {
    datastore: store,
    authorized: authorizedEntries(store, trustDomain),
    policies: documents,
    signer: snapshotSigner(signer),
    trustDomain,
  }
  return { store, documents, hub: updatesHub(parts), parts }
}

/** What an agent has after it has taken in all that it was sent. */
interface Replica {
  readonly follower: Follower
  readonly entries: Map<string, unknown>
  readonly bundles: Map<string, unknown>
  readonly snapshots: Map<string, unknown>
}

function take(replica: Replica, change: StateChange): void {
  for (const entry of change.entries) replica.entries.set(entry.id, entry)
  for (const gone of change.removedEntryIds) replica.entries.delete(gone)
  for (const held of change.bundles) replica.bundles.set(held.trustDomain, held)
  for (const gone of change.removedTrustDomains) replica.bundles.delete(gone)
  for (const snapshot of change.snapshots) replica.snapshots.set(snapshot.target, snapshot)
  for (const gone of change.removedTargets) replica.snapshots.delete(gone)
}

/** Only one may wait for a follower, so a wait that came to nothing goes on next time. */
const waits = new WeakMap<Follower, Promise<boolean>>()

async function catchUp(replica: Replica): Promise<boolean> {
  const wait = waits.get(replica.follower) ?? replica.follower.marked()
  waits.set(replica.follower, wait)
  const turns = async () => {
    for (let turn = 0; turn < 4; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    return false
  }
  const told = await Promise.race([wait, turns()])
  if (!told) return false
  waits.delete(replica.follower)
  take(replica, replica.follower.takeChange())
  return true
}

type Act =
  | { readonly kind: 'write'; readonly apply: (draft: Draft) => void }
  | { readonly kind: 'policy'; readonly text: string }

const parents = [
  ...agents.map((agent) => agent.id),
  id('/a'),
  id('/b'),
  id('/spire/server'),
  id('/elsewhere'),
]
const names = fc.constantFrom('1', '2', '3', '4')
const foreign = fc.constantFrom('p.example', 'q.example')

const act: fc.Arbitrary<Act> = fc.oneof(
  fc
    .record({
      name: names,
      parent: fc.constantFrom(...parents),
      path: fc.constantFrom('/a', '/b', '/c'),
      selector: fc.constantFrom('one', 'two'),
      federatesWith: fc.uniqueArray(foreign.map(parseTrustDomain)),
    })
    .map(({ name, parent, path, selector, federatesWith }): Act => {
      const entry = {
        ...plainEntry({
          id: name,
          spiffeId: id(path),
          parentId: parent,
          selectors: [{ type: 'node', value: selector }],
          createdAt: 0n,
        }),
        federatesWith,
      }
      return { kind: 'write', apply: (draft) => draft.table(entryTable).put(entry) }
    }),
  names.map(
    (name): Act => ({
      kind: 'write',
      apply: (draft) => draft.table(entryTable).remove(name),
    }),
  ),
  fc
    .record({ name: fc.oneof(foreign, fc.constant('prod.example')), sequence: fc.bigInt(1n, 9n) })
    .map(
      ({ name, sequence }): Act => ({
        kind: 'write',
        apply: (draft) => draft.table(bundleTable).put(bundle(name, sequence)),
      }),
    ),
  foreign.map(
    (name): Act => ({
      kind: 'write',
      apply: (draft) => draft.table(bundleTable).remove(name),
    }),
  ),
  fc
    .record({ name: fc.constantFrom('x', 'y'), app: fc.constantFrom('a', 'b', 'c', '*') })
    .map(({ name, app }): Act => ({ kind: 'policy', text: `${name} ${app} text` })),
)

test('whatever happens, an agent that takes in what it is sent holds what it is to hold', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(act, { maxLength: 12 }), async (acts) => {
      await using folder = await tempFolder()
      const { store, documents, hub, parts } = await build(folder)
      await using _closed = store
      const replicas = agents.map(({ id, current }): Replica => {
        const one = follower({ id, serialNumber: current?.serialNumber ?? '', notAfter: 0 }, parts)
        hub.enter(one)
        return { follower: one, entries: new Map(), bundles: new Map(), snapshots: new Map() }
      })
      for (const replica of replicas) await catchUp(replica)
      for (const one of acts) {
        if (one.kind === 'write') await store.write(one.apply)
        else await documents.apply({ text: one.text, source: '', dryRun: false })
        await documents.settled()
        for (const replica of replicas) {
          while (await catchUp(replica)) continue
          const fresh = follower(replica.follower.agent, parts)
          const whole: Replica = {
            follower: fresh,
            entries: new Map(),
            bundles: new Map(),
            snapshots: new Map(),
          }
          take(whole, fresh.takeChange())
          expect(replica.entries).toEqual(whole.entries)
          expect(replica.bundles).toEqual(whole.bundles)
          expect([...replica.snapshots.keys()].sort()).toEqual([...whole.snapshots.keys()].sort())
          for (const [target, snapshot] of whole.snapshots) {
            expect(replica.snapshots.get(target)).toBe(snapshot)
          }
        }
      }
    }),
    { numRuns: 30 },
  )
}, 60_000)

test('an agent that nothing concerns is not woken', async () => {
  await using folder = await tempFolder()
  const { store, hub, parts } = await build(folder)
  await using _closed = store
  const [mine] = agents
  const one = follower({ id: mine!.id, serialNumber: 'one', notAfter: 0 }, parts)
  hub.enter(one)
  const replica = { follower: one, entries: new Map(), bundles: new Map(), snapshots: new Map() }
  expect(await catchUp(replica)).toBe(true)
  await store.write((draft) => {
    draft.table(bundleTable).put(bundle('p.example', 1n))
    draft.table(entryTable).put(
      plainEntry({
        id: 'theirs',
        spiffeId: id('/a'),
        parentId: agents[1]!.id,
        selectors: [{ type: 'x', value: 'y' }],
        createdAt: 0n,
      }),
    )
  })
  expect(await catchUp(replica)).toBe(false)
  expect(isEmptyChange(one.takeChange())).toBe(true)
})

test('an agent that was banned before it is known here is sent away, and has no entries', async () => {
  await using folder = await tempFolder()
  const { store, hub, parts } = await build(folder)
  await using _closed = store
  const [mine] = agents
  const agent = { id: mine!.id, serialNumber: 'one', notAfter: 0 }
  const selectors = [{ type: 'x', value: 'y' }]
  const entry = plainEntry({
    id: 'e',
    spiffeId: id('/a'),
    parentId: mine!.id,
    selectors,
    createdAt: 0n,
  })
  await store.write((draft) => draft.table(entryTable).put(entry))
  expect(parts.authorized.of(mine!.id).size).toBe(1)
  const late = follower(agent, parts)
  await store.write((draft) => banAgent(draft, mine!.id))
  hub.enter(late)
  await expect(late.marked()).rejects.toMatchObject({ code: 'CS_AGENT_BANNED' })
  expect(parts.authorized.of(mine!.id).size).toBe(0)
})

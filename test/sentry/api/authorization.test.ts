import { Client, status } from '@grpc/grpc-js'
import { expect, test } from 'vitest'
import { PolicyAdminClient } from '../../../proto/gen/countersign/policy/v1/policy.js'
import { EntryClient } from '../../../proto/gen/spire/api/server/entry/v1/entry.js'
import { SVIDClient } from '../../../proto/gen/spire/api/server/svid/v1/svid.js'
import { Entry } from '../../../proto/gen/spire/api/types/types.js'
import {
  makeSpiffeId,
  parseTrustDomain,
  parseX509Svid,
  pathOf,
  type SpiffeId,
  type X509Svid,
} from '../../../spiffe/index.js'
import { bundleStore } from '../../../trust-bundles/store.js'
import { testAuthority } from '../../support/authority.js'
import { fakeClock } from '../../support/fake-clock.js'
import {
  type AttestedAgent,
  ask,
  auditRecords,
  freshCsr,
  nextOf,
  refusalOf,
  type TestSentry,
  testSentry,
  trustDomain,
} from '../running-sentry.js'

/** The table of SPIRE: who may call what. Columns as in `callers` below. */
const table: readonly (readonly [string, string])[] = [
  ['spire.api.server.bundle.v1.Bundle/GetBundle', 'anonymous local admin agent workload'],
  ['spire.api.server.agent.v1.Agent/AttestAgent', 'anonymous local admin agent workload'],
  ...['CountAgents', 'ListAgents', 'GetAgent', 'DeleteAgent', 'BanAgent', 'CreateJoinToken'].map(
    (name) => [`spire.api.server.agent.v1.Agent/${name}`, 'local admin'] as const,
  ),
  ['spire.api.server.agent.v1.Agent/RenewAgent', 'agent'],
  ['spire.api.server.agent.v1.Agent/PostStatus', 'agent'],
  ...[
    'CountEntries',
    'ListEntries',
    'GetEntry',
    'BatchCreateEntry',
    'BatchUpdateEntry',
    'BatchDeleteEntry',
  ].map((name) => [`spire.api.server.entry.v1.Entry/${name}`, 'local admin'] as const),
  ['spire.api.server.entry.v1.Entry/GetAuthorizedEntries', 'agent'],
  ['spire.api.server.entry.v1.Entry/SyncAuthorizedEntries', 'agent'],
  ...['MintX509SVID', 'MintJWTSVID', 'MintWITSVID'].map(
    (name) => [`spire.api.server.svid.v1.SVID/${name}`, 'local admin'] as const,
  ),
  ...['BatchNewX509SVID', 'NewJWTSVID', 'BatchNewWITSVID'].map(
    (name) => [`spire.api.server.svid.v1.SVID/${name}`, 'agent'] as const,
  ),
  ['spire.api.server.svid.v1.SVID/NewDownstreamX509CA', ''],
  ['spire.api.server.bundle.v1.Bundle/PublishJWTAuthority', ''],
  ['spire.api.server.bundle.v1.Bundle/PublishWITAuthority', ''],
  ['spire.api.server.bundle.v1.Bundle/GetFederatedBundle', 'local admin agent'],
  ...[
    'CountBundles',
    'AppendBundle',
    'ListFederatedBundles',
    'BatchCreateFederatedBundle',
    'BatchUpdateFederatedBundle',
    'BatchSetFederatedBundle',
    'BatchDeleteFederatedBundle',
  ].map((name) => [`spire.api.server.bundle.v1.Bundle/${name}`, 'local admin'] as const),
  ...['Apply', 'List', 'Delete', 'GetSnapshot'].map(
    (name) => [`countersign.policy.v1.PolicyAdmin/${name}`, 'local admin'] as const,
  ),
  ['countersign.sentry.v1.Updates/Follow', 'agent'],
]

/** The status of a call with an empty message, whatever it is a call of. */
function statusOf(client: Client, path: string): Promise<status> {
  const bytes = (value: Buffer) => value
  return new Promise((resolve) => {
    client.makeUnaryRequest(`/${path}`, bytes, bytes, Buffer.alloc(0), (error) =>
      resolve(error ? error.code : status.OK),
    )
  })
}

async function workloadSvid(test: TestSentry, agent: AttestedAgent, fields: Partial<Entry>) {
  const entry = Entry.create({
    parentId: { trustDomain, path: pathOf(agent.id as SpiffeId) },
    selectors: [{ type: 'unix', value: 'uid:1' }],
    ...fields,
  })
  const request = { entries: [entry], outputMask: undefined }
  const { results } = await ask(test.local(EntryClient), 'batchCreateEntry', request)
  const { csr, privateKey } = freshCsr()
  const issued = await ask(test.remote(SVIDClient, agent.svid), 'batchNewX509Svid', {
    params: [{ entryId: results[0]?.entry?.id ?? '', csr }],
  })
  return parseX509Svid({
    chain: issued.results[0]?.svid?.certChain ?? [],
    privateKeyDer: privateKey.export({ type: 'pkcs8', format: 'der' }),
  })
}

test('each method lets in exactly those that SPIRE lets in', async () => {
  await using test = await testSentry()
  const agent = await test.attest()
  const admin = await workloadSvid(test, agent, {
    spiffeId: { trustDomain, path: '/admin' },
    admin: true,
  })
  const workload = await workloadSvid(test, agent, { spiffeId: { trustDomain, path: '/app' } })
  const callers: Readonly<Record<string, Client>> = {
    anonymous: test.remote(Client),
    local: test.local(Client),
    admin: test.remote(Client, admin),
    agent: test.remote(Client, agent.svid),
    workload: test.remote(Client, workload),
  }
  for (const [path, allowed] of table) {
    for (const [caller, client] of Object.entries(callers)) {
      const denied = (await statusOf(client, path)) === status.PERMISSION_DENIED
      expect.soft(denied, `${caller} calls ${path}`).toBe(!allowed.split(' ').includes(caller))
    }
  }
})

test('an unknown service or method is unimplemented for everybody', async () => {
  await using test = await testSentry()
  for (const path of [
    'spire.api.server.agent.v1.Agent/Nothing',
    'spire.api.server.trustdomain.v1.TrustDomain/RefreshBundle',
    'spire.api.server.debug.v1.Debug/GetInfo',
    'nobody.Knows/This',
  ]) {
    expect(await statusOf(test.remote(Client), path)).toBe(status.UNIMPLEMENTED)
    expect(await statusOf(test.local(Client), path)).toBe(status.UNIMPLEMENTED)
  }
})

test('health is told on the admin socket alone', async () => {
  await using test = await testSentry()
  const path = 'grpc.health.v1.Health/Check'
  expect(await statusOf(test.local(Client), path)).toBe(status.OK)
  expect(await statusOf(test.remote(Client), path)).toBe(status.UNIMPLEMENTED)
  expect(await statusOf(test.local(Client), 'grpc.health.v1.Health/Watch')).toBe(
    status.UNIMPLEMENTED,
  )
})

test('a denied call names its method, and no reason to those who have no certificate', async () => {
  await using test = await testSentry()
  const call = ask(test.remote(EntryClient), 'countEntries', { filter: undefined })
  const refusal = await refusalOf(call)
  expect(refusal).toMatchObject({
    status: status.PERMISSION_DENIED,
    message: 'authorization denied for method /spire.api.server.entry.v1.Entry/CountEntries',
    code: 'CS_CALLER_NOT_ALLOWED',
  })
  expect(refusal.error.metadata.get('grpc-status-details-bin')).toEqual([])
})

const partner = testAuthority('partner.example')
const operator = makeSpiffeId(parseTrustDomain('partner.example'), '/operator')

async function withPartner(adminIds: readonly SpiffeId[]) {
  const bundles = bundleStore([partner.bundle])
  return testSentry({ adminIds, bundles })
}

const count = (test: TestSentry, svid: X509Svid) =>
  ask(test.remote(EntryClient, svid), 'countEntries', { filter: undefined })

test('an administrator of another trust domain is let in by its ID, verified against its own bundle', async () => {
  await using test = await withPartner([operator])
  const svid = partner.issueX509({ id: operator })
  expect(await count(test, svid)).toEqual({ count: 0 })
})

test('nobody else of another trust domain gets through the handshake', async () => {
  await using test = await withPartner([operator])
  const svid = partner.issueX509({ id: '/somebody' })
  expect((await refusalOf(count(test, svid))).status).toBe(status.UNAVAILABLE)
})

test("a certificate for our trust domain from another domain's authority is refused (ID-29, X509-40)", async () => {
  await using test = await withPartner([])
  const forged = partner.issueX509({ id: 'spiffe://prod.example/admin' })
  expect((await refusalOf(count(test, forged))).status).toBe(status.UNAVAILABLE)
})

test('an ID that is configured administers without an entry', async () => {
  const adminIds = [makeSpiffeId(trustDomain, '/ops')]
  await using test = await testSentry({ adminIds })
  const agent = await test.attest()
  const svid = await workloadSvid(test, agent, { spiffeId: { trustDomain, path: '/ops' } })
  expect(await count(test, svid)).toEqual({ count: 1 })
})

const adminFields = { spiffeId: { trustDomain, path: '/admin' }, id: 'admin', admin: true }

test('a connection outlives the certificate it began with, the right to administer does not', async () => {
  const clock = fakeClock(new Date())
  await using test = await testSentry({ clock })
  const agent = await test.attest()
  const svid = await workloadSvid(test, agent, { ...adminFields, x509SvidTtl: 60 })
  const client = test.remote(EntryClient, svid)
  const call = () => ask(client, 'countEntries', { filter: undefined })
  expect(await call()).toEqual({ count: 1 })
  await clock.advance(61_000)
  expect(await refusalOf(call())).toMatchObject({ code: 'CS_CALLER_NOT_ALLOWED' })
})

test('an entry that has expired gives no right, also before it is removed', async () => {
  const clock = fakeClock(new Date())
  await using test = await testSentry({ clock })
  const agent = await test.attest()
  const expiresAt = BigInt(Math.floor(clock.now().getTime() / 1000) + 5)
  const svid = await workloadSvid(test, agent, { ...adminFields, expiresAt })
  const client = test.remote(EntryClient, svid)
  const call = () => ask(client, 'countEntries', { filter: undefined })
  expect(await call()).toEqual({ count: 1 })
  await clock.advance(5000)
  expect(await refusalOf(call())).toMatchObject({ code: 'CS_CALLER_NOT_ALLOWED' })
})

test('who may no longer administer is sent away from the status that it watches', async () => {
  await using test = await testSentry()
  const agent = await test.attest()
  const svid = await workloadSvid(test, agent, adminFields)
  const watch = test.remote(PolicyAdminClient, svid).watchStatus({})
  expect((await nextOf(watch))?.targets).toHaveLength(1)
  const end = refusalOf(nextOf(watch))
  await ask(test.local(EntryClient), 'batchDeleteEntry', { ids: ['admin'] })
  expect(await end).toMatchObject({ code: 'CS_CALLER_NOT_ALLOWED' })
})

test('who asks again and again for what it may not have does not fill the audit log', async () => {
  const clock = fakeClock(new Date())
  await using test = await testSentry({ clock })
  const agent = await test.attest()
  const client = test.remote(EntryClient, agent.svid)
  for (let call = 0; call < 30; call += 1) {
    const refusal = await refusalOf(ask(client, 'countEntries', { filter: undefined }))
    expect(refusal.code).toBe('CS_CALLER_NOT_ALLOWED')
  }
  await clock.advance(0)
  expect(await auditRecords(test, 'call.denied.v1')).toHaveLength(10)
})

import { status } from '@grpc/grpc-js'
import { expect, test } from 'vitest'
import { EntryClient } from '../../../proto/gen/spire/api/server/entry/v1/entry.js'
import { SVIDClient } from '../../../proto/gen/spire/api/server/svid/v1/svid.js'
import { Entry, EntryMask } from '../../../proto/gen/spire/api/types/types.js'
import { contextTag, octetString, oid, sequence, setOf, tlv } from '../../../spiffe/asn1/index.js'
import {
  bundleSet,
  parseCertificate,
  pathOf,
  type SpiffeId,
  verifyJwtSvid,
  verifyX509Svid,
} from '../../../spiffe/index.js'
import { ecKeys, makeCsr } from '../../support/csr.js'
import { fakeClock } from '../../support/fake-clock.js'
import {
  type AttestedAgent,
  ask,
  freshCsr,
  refusalOf,
  type TestSentry,
  testSentry,
  trustDomain,
} from '../running-sentry.js'

type Fields = Parameters<typeof Entry.create>[0]

async function register(test: TestSentry, agent: AttestedAgent, ...entries: Fields[]) {
  const made = entries.map((fields) =>
    Entry.create({
      spiffeId: { trustDomain, path: `/${fields?.id}` },
      parentId: { trustDomain, path: pathOf(agent.id as SpiffeId) },
      selectors: [{ type: 'unix', value: 'uid:1' }],
      ...fields,
    }),
  )
  const request = { entries: made, outputMask: EntryMask.create() }
  await ask(test.local(EntryClient), 'batchCreateEntry', request)
}

test('each item of a batch has its own answer, in order, and the SVID says what its entry says', async () => {
  await using test = await testSentry()
  const agent = await test.attest()
  await register(
    test,
    agent,
    { id: 'app', dnsNames: ['app.shop.svc'], x509SvidTtl: 120 },
    { id: 'other' },
  )
  const forged = makeCsr({ keys: { ...ecKeys(), publicKey: ecKeys().publicKey } })
  const { csr } = freshCsr()
  const { results } = await ask(test.remote(SVIDClient, agent.svid), 'batchNewX509Svid', {
    params: [
      { entryId: 'app', csr },
      { entryId: '', csr },
      { entryId: 'app', csr: Buffer.alloc(0) },
      { entryId: 'nobody', csr },
      { entryId: 'app', csr: Buffer.from('x') },
      { entryId: 'app', csr: forged },
      { entryId: 'other', csr: freshCsr().csr },
    ],
  })
  const invalid = status.INVALID_ARGUMENT
  expect(results.map(({ status, svid }) => [status?.code, svid !== undefined])).toEqual([
    [0, true],
    [invalid, false],
    [invalid, false],
    [status.NOT_FOUND, false],
    [invalid, false],
    [invalid, false],
    [0, true],
  ])
  expect(results.map(({ status }) => status?.message.split(': ')[0])).toEqual([
    'OK',
    'missing entry ID',
    'missing CSR',
    'entry not found or not authorized',
    'malformed CSR',
    'invalid CSR signature',
    'OK',
  ])
  const svid = results[0]?.svid
  const chain = svid?.certChain ?? []
  const leaf = parseCertificate(chain[0] ?? new Uint8Array())
  const { id } = verifyX509Svid({
    chain,
    bundles: bundleSet([test.sentry.bundle()]),
    now: new Date(),
  })
  expect(id).toBe('spiffe://prod.example/app')
  expect(leaf.dnsNames).toEqual(['app.shop.svc'])
  expect((leaf.notAfter - leaf.notBefore) / 1000).toBe(130)
  expect(svid).toMatchObject({ id: { trustDomain, path: '/app' }, hint: '' })
  expect(Number(svid?.expiresAt) * 1000).toBe(leaf.notAfter)
})

test('a batch without items is refused as a whole', async () => {
  await using test = await testSentry()
  const agent = await test.attest()
  const call = ask(test.remote(SVIDClient, agent.svid), 'batchNewX509Svid', { params: [] })
  expect(await refusalOf(call)).toMatchObject({
    status: status.INVALID_ARGUMENT,
    message: 'missing parameters',
  })
})

test('a batch of 500 is answered in one', async () => {
  await using test = await testSentry()
  const agent = await test.attest()
  await register(test, agent, { id: 'app' })
  const { csr } = freshCsr()
  const params = Array.from({ length: 500 }, () => ({ entryId: 'app', csr }))
  const client = test.remote(SVIDClient, agent.svid)
  const { results } = await ask(client, 'batchNewX509Svid', { params })
  expect(results.filter(({ status }) => status?.code === 0)).toHaveLength(500)
})

test('one agent gets nothing for the entries of another, in the words for what does not exist', async () => {
  await using test = await testSentry()
  const [mine, yours] = [await test.attest(), await test.attest()]
  await register(test, yours, { id: 'app' })
  const client = test.remote(SVIDClient, mine.svid)
  const { csr } = freshCsr()
  const { results } = await ask(client, 'batchNewX509Svid', { params: [{ entryId: 'app', csr }] })
  expect(results[0]?.status?.message).toBe('entry not found or not authorized')
  const token = await refusalOf(ask(client, 'newJwtsvid', { entryId: 'app', audience: ['a'] }))
  expect(token).toMatchObject({
    status: status.NOT_FOUND,
    message: 'entry not found or not authorized',
  })
})

test('nothing is issued for an entry from the moment it is deleted or over', async () => {
  const clock = fakeClock(new Date())
  await using test = await testSentry({ clock })
  const agent = await test.attest()
  const seconds = BigInt(Math.floor(clock.now().getTime() / 1000))
  await register(test, agent, { id: 'short', expiresAt: seconds + 5n }, { id: 'gone' })
  const client = test.remote(SVIDClient, agent.svid)
  const issue = async (entryId: string) => {
    const { results } = await ask(client, 'batchNewX509Svid', {
      params: [{ entryId, csr: freshCsr().csr }],
    })
    return results[0]?.status?.code
  }
  expect([await issue('short'), await issue('gone')]).toEqual([0, 0])
  await ask(test.local(EntryClient), 'batchDeleteEntry', { ids: ['gone'] })
  // Before the pruner has passed.
  await clock.advance(5000)
  expect([await issue('short'), await issue('gone')]).toEqual([5, 5])
})

test('a JWT-SVID verifies, for the audience that was asked and the time of its entry', async () => {
  await using test = await testSentry()
  const agent = await test.attest()
  await register(test, agent, { id: 'app', jwtSvidTtl: 90 })
  const client = test.remote(SVIDClient, agent.svid)
  const { svid } = await ask(client, 'newJwtsvid', { entryId: 'app', audience: ['api', 'db'] })
  const verified = verifyJwtSvid({
    token: svid?.token ?? '',
    bundles: bundleSet([test.sentry.bundle()]),
    audience: 'db',
    now: new Date(),
  })
  expect(verified.id).toBe('spiffe://prod.example/app')
  expect(verified.audience).toEqual(['api', 'db'])
  expect(Number(svid?.expiresAt) - Number(svid?.issuedAt)).toBe(90)
  expect(svid?.id).toEqual({ trustDomain, path: '/app' })
  const silent = await refusalOf(ask(client, 'newJwtsvid', { entryId: 'app', audience: [] }))
  expect(silent).toMatchObject({
    status: status.INVALID_ARGUMENT,
    message: 'at least one audience is required',
  })
})

const URI = 6
const DNS = 2
const name = (kind: number, text: string) =>
  tlv(contextTag(kind, 'primitive'), Buffer.from(text, 'latin1'))

/** A request that asks for names, as SPIRE's `x509 mint` does. */
function namedCsr(...names: Uint8Array[]): Uint8Array {
  const san = sequence(oid('2.5.29.17'), octetString(sequence(...names)))
  const attributes = sequence(oid('1.2.840.113549.1.9.14'), setOf(sequence(san)))
  return makeCsr({ keys: ecKeys(), attributes })
}

test.each([
  ['the ID of its entry', [name(URI, 'spiffe://prod.example/app')], 0],
  ['a DNS name of its entry', [name(DNS, 'app.shop.svc')], 0],
  ['another ID', [name(URI, 'spiffe://prod.example/admin')], status.INVALID_ARGUMENT],
  ['an ID of another trust domain', [name(URI, 'spiffe://other.example/app')], 3],
  [
    'the right ID and another',
    [name(URI, 'spiffe://prod.example/app'), name(URI, 'spiffe://prod.example/b')],
    3,
  ],
  ['a DNS name that its entry does not have', [name(DNS, 'db.shop.svc')], 3],
  ['an e-mail address', [name(1, 'root@prod.example')], 3],
])('a request that asks for %s is judged by its entry (ID-41, ID-42)', async (_, names, code) => {
  await using test = await testSentry()
  const agent = await test.attest()
  await register(test, agent, { id: 'app', dnsNames: ['app.shop.svc'] })
  const params = [{ entryId: 'app', csr: namedCsr(...names) }]
  const { results } = await ask(test.remote(SVIDClient, agent.svid), 'batchNewX509Svid', { params })
  expect(results[0]?.status?.code).toBe(code)
})

test('minting takes ID and names from the request of an administrator', async () => {
  await using test = await testSentry()
  const client = test.local(SVIDClient)
  const csr = namedCsr(name(URI, 'spiffe://prod.example/minted'), name(DNS, 'hook.shop.svc'))
  const { svid } = await ask(client, 'mintX509Svid', { csr, ttl: 60 })
  const leaf = parseCertificate(svid?.certChain[0] ?? new Uint8Array())
  expect(leaf.uriNames).toEqual(['spiffe://prod.example/minted'])
  expect(leaf.dnsNames).toEqual(['hook.shop.svc'])
  expect(svid?.id).toEqual({ trustDomain, path: '/minted' })

  const token = await ask(client, 'mintJwtsvid', {
    id: { trustDomain, path: '/minted' },
    audience: ['api', ' '],
    ttl: 0,
  })
  expect(token.svid?.token.split('.')).toHaveLength(3)
})

test.each([
  ['without a request', Buffer.alloc(0), 'missing CSR'],
  ['with a request that is none', Buffer.from('x'), 'malformed CSR: '],
  ['without an ID', namedCsr(), 'CSR URI SAN is required'],
  [
    'with two IDs',
    namedCsr(name(URI, 'spiffe://prod.example/a'), name(URI, 'spiffe://prod.example/b')),
    'only one URI SAN is expected',
  ],
  [
    'with an ID of another trust domain (ID-42)',
    namedCsr(name(URI, 'spiffe://other.example/a')),
    'CSR URI SAN is invalid: ',
  ],
  [
    'with a reserved ID',
    namedCsr(name(URI, 'spiffe://prod.example/spire/server')),
    'CSR URI SAN is invalid: ',
  ],
  [
    'with a wildcard over another name',
    namedCsr(name(URI, 'spiffe://prod.example/a'), name(DNS, '*.b.svc'), name(DNS, 'x.b.svc')),
    'CSR DNS name contains a wildcard',
  ],
  [
    'with a name that is none',
    namedCsr(name(URI, 'spiffe://prod.example/a'), name(DNS, '-.svc')),
    'DNS name',
  ],
])('minting %s is refused', async (_, csr, message) => {
  await using test = await testSentry()
  const refusal = await refusalOf(ask(test.local(SVIDClient), 'mintX509Svid', { csr, ttl: 0 }))
  expect(refusal.status).toBe(status.INVALID_ARGUMENT)
  expect(refusal.message).toContain(message)
})

test('what is off is unimplemented, and says so', async () => {
  await using test = await testSentry()
  const request = { id: undefined, publicKey: Buffer.alloc(0), ttl: 0, signingAlgorithm: '' }
  const refusal = await refusalOf(ask(test.local(SVIDClient), 'mintWitsvid', request))
  expect(refusal).toMatchObject({
    status: status.UNIMPLEMENTED,
    message: 'WIT functionality is disabled',
    code: 'CS_FEATURE_OFF',
  })
})

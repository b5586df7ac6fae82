import { status } from '@grpc/grpc-js'
import { expect, test } from 'vitest'
import {
  BundleClient,
  BatchDeleteFederatedBundleRequest_Mode as Mode,
} from '../../../proto/gen/spire/api/server/bundle/v1/bundle.js'
import { EntryClient } from '../../../proto/gen/spire/api/server/entry/v1/entry.js'
import { Bundle, BundleMask, Entry } from '../../../proto/gen/spire/api/types/types.js'
import { testAuthority } from '../../support/authority.js'
import {
  ask,
  auditRecords,
  refusalOf,
  type TestSentry,
  testSentry,
  trustDomain,
} from '../running-sentry.js'

const partner = testAuthority('partner.example')
const [root] = partner.bundle.x509Authorities
const jwtKey = partner.bundle.jwtAuthorities.get(partner.jwtKey.keyId)

const partnerBundle = (fields: Partial<Bundle> = {}) =>
  Bundle.create({
    trustDomain: 'partner.example',
    x509Authorities: [{ asn1: root?.der ?? new Uint8Array() }],
    jwtAuthorities: [
      {
        keyId: partner.jwtKey.keyId,
        publicKey: jwtKey?.publicKey.export({ type: 'spki', format: 'der' }) ?? new Uint8Array(),
        expiresAt: 4_000_000_000n,
      },
    ],
    refreshHint: 60n,
    sequenceNumber: 18446744073709551615n,
    ...fields,
  })

const bytesOf = (bundle: Bundle) => Buffer.from(Bundle.encode(bundle).finish())

type Write = 'batchCreateFederatedBundle' | 'batchUpdateFederatedBundle' | 'batchSetFederatedBundle'

async function write(test: TestSentry, name: Write, bundle: Bundle, inputMask?: BundleMask) {
  const request = { bundle: [bundle], inputMask, outputMask: undefined }
  const { results } = await ask(test.local(BundleClient), name, request)
  const [result] = results
  return { code: result?.status?.code, status: result?.status, bundle: result?.bundle }
}

const get = (test: TestSentry, name: string) =>
  ask(test.local(BundleClient), 'getFederatedBundle', { trustDomain: name, outputMask: undefined })

test('a federated bundle is kept as it was sent, also the largest sequence number (TB-12)', async () => {
  await using test = await testSentry()
  expect((await write(test, 'batchCreateFederatedBundle', partnerBundle())).code).toBe(status.OK)
  const held = await get(test, 'spiffe://partner.example')
  expect(bytesOf(held)).toEqual(bytesOf(partnerBundle()))
  const again = await write(test, 'batchCreateFederatedBundle', partnerBundle())
  expect([again.code, again.status?.message, again.bundle]).toEqual([
    status.ALREADY_EXISTS,
    'bundle already exists',
    undefined,
  ])
})

test('an update takes what its mask names, and needs something to update', async () => {
  await using test = await testSentry()
  const missing = await write(test, 'batchUpdateFederatedBundle', partnerBundle())
  expect([missing.code, missing.status?.message]).toEqual([status.NOT_FOUND, 'bundle not found'])
  await write(test, 'batchSetFederatedBundle', partnerBundle())
  const mask = BundleMask.create({ refreshHint: true })
  const empty = Bundle.create({ trustDomain: 'partner.example', refreshHint: 90n })
  await write(test, 'batchUpdateFederatedBundle', empty, mask)
  const updated = await get(test, 'partner.example')
  expect(bytesOf(updated)).toEqual(bytesOf(partnerBundle({ refreshHint: 90n })))
  await write(test, 'batchSetFederatedBundle', empty)
  expect(await get(test, 'partner.example')).toEqual(empty)
})

test('several certificates in one element are kept one by one, as agents read them', async () => {
  await using test = await testSentry()
  const second = testAuthority('partner.example').root.certificate.der
  const both = Buffer.concat([root?.der ?? new Uint8Array(), second])
  const set = partnerBundle({ x509Authorities: [{ asn1: both, tainted: true }] })
  const { bundle } = await write(test, 'batchSetFederatedBundle', set)
  expect(bundle?.x509Authorities.map(({ asn1, tainted }) => [asn1.length, tainted])).toEqual([
    [root?.der.length, false],
    [second.length, false],
  ])
})

test.each([
  ['no trust domain', { trustDomain: '' }, 'trust domain argument is not valid: '],
  ['a trust domain in capitals', { trustDomain: 'X.Y' }, 'trust domain argument is not valid: '],
  [
    'the own trust domain',
    { trustDomain },
    "setting a federated bundle for the server's own trust domain is not allowed",
  ],
  [
    'an authority that is no certificate',
    { x509Authorities: [{ asn1: Buffer.from('x'), tainted: false }] },
    'failed to convert bundle: failed to convert X.509 authority: ',
  ],
  [
    'a JWT key without an id',
    { jwtAuthorities: [{ keyId: '', publicKey: Buffer.alloc(1), expiresAt: 0n, tainted: false }] },
    'failed to convert bundle: failed to convert JWT authority: missing key ID',
  ],
  [
    'a JWT key that is none',
    { jwtAuthorities: [{ keyId: 'k', publicKey: Buffer.alloc(9), expiresAt: 0n, tainted: false }] },
    'failed to convert bundle: failed to convert JWT authority: ',
  ],
])('a bundle with %s is refused', async (_, fields, message) => {
  await using test = await testSentry()
  const result = await write(test, 'batchSetFederatedBundle', partnerBundle(fields))
  expect(result.code).toBe(status.INVALID_ARGUMENT)
  expect(result.status?.message).toContain(message)
})

test('asking for the own bundle, or for none that is there, is refused by name', async () => {
  await using test = await testSentry()
  expect(await refusalOf(get(test, 'prod.example'))).toMatchObject({
    status: status.INVALID_ARGUMENT,
    message: "getting a federated bundle for the server's own trust domain is not allowed",
  })
  expect(await refusalOf(get(test, 'partner.example'))).toMatchObject({
    status: status.NOT_FOUND,
    message: 'bundle not found',
    code: 'CS_BUNDLE_NOT_FOUND',
  })
  expect((await refusalOf(get(test, 'a b'))).status).toBe(status.INVALID_ARGUMENT)
})

test('bundles are listed without the own one, which is counted', async () => {
  await using test = await testSentry()
  await write(test, 'batchSetFederatedBundle', partnerBundle())
  const client = test.local(BundleClient)
  const request = { outputMask: undefined, pageSize: 0, pageToken: '' }
  const { bundles } = await ask(client, 'listFederatedBundles', request)
  expect(bundles.map(({ trustDomain }) => trustDomain)).toEqual(['partner.example'])
  expect((await ask(client, 'countBundles', {})).count).toBe(2)
  // SPIRE takes the own bundle out of a page that was cut before.
  const page = await ask(client, 'listFederatedBundles', { ...request, pageSize: 1 })
  expect([page.bundles.length, page.nextPageToken]).not.toEqual([1, ''])
})

async function entryWithPartner(test: TestSentry) {
  const entry = Entry.create({
    id: 'app',
    spiffeId: { trustDomain, path: '/app' },
    parentId: { trustDomain, path: '/node' },
    selectors: [{ type: 'unix', value: 'uid:1' }],
    federatesWith: ['partner.example'],
  })
  const request = { entries: [entry], outputMask: undefined }
  const { results } = await ask(test.local(EntryClient), 'batchCreateEntry', request)
  expect(results[0]?.status?.message).toBe('OK')
}

test.each([
  ['restricted', Mode.RESTRICT, status.FAILED_PRECONDITION, ['partner.example'], []],
  ['deleting entries', Mode.DELETE, status.OK, undefined, ['deleted']],
  ['dissociating entries', Mode.DISSOCIATE, status.OK, [], ['updated']],
] as const)('a bundle that entries name is deleted %s', async (_, mode, code, left, recorded) => {
  await using test = await testSentry()
  await write(test, 'batchSetFederatedBundle', partnerBundle())
  await entryWithPartner(test)
  const { results } = await ask(test.local(BundleClient), 'batchDeleteFederatedBundle', {
    trustDomains: ['partner.example', 'nobody.example', 'prod.example'],
    mode,
  })
  expect(results.map(({ status, trustDomain }) => [status?.code, trustDomain])).toEqual([
    [code, 'partner.example'],
    [status.NOT_FOUND, 'nobody.example'],
    [status.INVALID_ARGUMENT, 'prod.example'],
  ])
  const shown = ask(test.local(EntryClient), 'getEntry', { id: 'app', outputMask: undefined })
  if (left) expect((await shown).federatesWith).toEqual(left)
  else expect((await refusalOf(shown)).status).toBe(status.NOT_FOUND)
  const changes = (await auditRecords(test, 'entry.changed.v1')).map(({ details }) => details)
  expect(changes.map((details) => details?.['change'])).toEqual(['created', ...recorded])
})

test('an unknown way of deleting fails the call', async () => {
  await using test = await testSentry()
  const call = ask(test.local(BundleClient), 'batchDeleteFederatedBundle', {
    trustDomains: [],
    mode: 9 as never,
  })
  expect((await refusalOf(call)).message).toContain('failed to parse deletion mode')
})

test('authorities are added to the own bundle once, and its sequence grows with each (TB-11)', async () => {
  await using test = await testSentry()
  const client = test.local(BundleClient)
  const x509Authorities = partnerBundle().x509Authorities
  const nothing = { jwtAuthorities: [], witAuthorities: [], outputMask: undefined }
  const append = () => ask(client, 'appendBundle', { ...nothing, x509Authorities })
  const first = await append()
  const second = await append()
  expect([first.sequenceNumber, second.sequenceNumber]).toEqual([2n, 2n])
  expect(first.x509Authorities).toHaveLength(2)
  expect(test.sentry.bundle().x509Authorities).toHaveLength(2)
  const empty = ask(client, 'appendBundle', { ...nothing, x509Authorities: [] })
  expect((await refusalOf(empty)).message).toBe('no authorities to append')
})

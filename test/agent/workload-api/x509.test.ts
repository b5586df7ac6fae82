import { createPrivateKey, createPublicKey } from 'node:crypto'
import { status } from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import {
  bundleSet,
  parseCertificate,
  splitCertificates,
  verifyX509Svid,
} from '../../../spiffe/index.js'
import { testAuthority } from '../../support/authority.js'
import { fakeAttestation } from '../../support/fake-attestation.js'
import { fakeIdentities, sentryAway } from '../../support/fake-identities.js'
import { received, security } from '../../support/local-client.js'
import { testEndpoint } from '../../support/local-endpoint.js'

const partner = testAuthority('partner.example')
const mine = ['unix:uid:1000']
const denied = { code: status.PERMISSION_DENIED, details: 'no identity issued' }

describe('FetchX509SVID', () => {
  test('WL-13 WL-14 sends the whole state at once: chain, key, bundle and hint', async () => {
    const identities = fakeIdentities({
      entries: [{ path: '/web', selectors: mine, hint: 'internal' }],
    })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    const { svids, crl, federatedBundles } = await stream.next()

    expect(svids).toHaveLength(1)
    expect(crl).toEqual([])
    expect(federatedBundles.size).toBe(0)
    const [svid] = svids
    expect(svid).toMatchObject({ spiffeId: 'spiffe://prod.example/web', hint: 'internal' })
  })

  test('WL-23 WL-24 WL-25 WL-26 WL-35 an SVID is DER, leaf first, with its PKCS#8 key and own bundle', async () => {
    const identities = fakeIdentities({ entries: [{ path: '/web', selectors: mine }] })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    const [svid] = (await stream.next()).svids
    const chain = splitCertificates(svid!.x509Svid)

    expect(chain).toHaveLength(2)
    const bundles = bundleSet([
      {
        trustDomain: identities.trustDomain,
        x509Authorities: splitCertificates(svid!.bundle).map(parseCertificate),
        jwtAuthorities: new Map(),
      },
    ])
    expect(verifyX509Svid({ chain, bundles, now: new Date() }).id).toBe(svid!.spiffeId)
    const key = createPrivateKey({
      key: Buffer.from(svid!.x509SvidKey),
      format: 'der',
      type: 'pkcs8',
    })
    const leafKey = parseCertificate(chain[0]!).publicKey
    expect(createPublicKey(key).equals(leafKey)).toBe(true)
  })

  test('WL-27 hands out the bundles of federated trust domains under their IDs, and only those asked for', async () => {
    const other = testAuthority('other.example')
    const identities = fakeIdentities({
      entries: [
        { path: '/web', selectors: mine, federatesWith: ['partner.example', 'absent.example'] },
      ],
      federated: [partner, other],
    })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    const { federatedBundles } = await stream.next()
    expect([...federatedBundles.keys()]).toEqual(['spiffe://partner.example'])
    const [root] = splitCertificates(federatedBundles.get('spiffe://partner.example')!)
    expect(parseCertificate(root!).fingerprint).toBe(partner.root.certificate.fingerprint)
  })

  test('WL-30 WL-84 has one SVID for each entry, in the order of the entries', async () => {
    const paths = ['/c', '/a', '/b']
    const identities = fakeIdentities({
      entries: paths.map((path) => ({
        path,
        selectors: mine,
        admin: path === '/a',
        downstream: path === '/b',
      })),
    })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    const { svids } = await stream.next()
    expect(svids.map(({ spiffeId }) => spiffeId)).toEqual(
      paths.map((path) => `spiffe://prod.example${path}`),
    )
  })

  test('WL-33 gives a hint to the first entry that has it and to no other', async () => {
    const hints = ['internal', '', 'internal', 'external', '']
    const identities = fakeIdentities({
      entries: hints.map((hint, at) => ({ path: `/${at}`, selectors: mine, hint })),
    })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    const { svids } = await stream.next()
    expect(svids.map(({ hint }) => hint)).toEqual(['internal', '', '', 'external', ''])
  })

  test('WL-11 WL-12 sends everything again when one SVID is renewed, and nothing when nothing changed', async () => {
    const identities = fakeIdentities({
      entries: ['/a', '/b', '/c'].map((path) => ({ path, selectors: mine })),
    })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    const before = await stream.next()
    identities.touch()
    identities.issue('/b')
    const after = await stream.next()

    expect(after.svids).toHaveLength(3)
    const same = after.svids.map((svid, at) =>
      Buffer.from(svid.x509Svid).equals(before.svids[at]!.x509Svid),
    )
    expect(same).toEqual([true, false, true])
    expect(stream.waiting()).toBe(0)
  })

  test('sends nothing when only the SVID of somebody else was renewed', async () => {
    const identities = fakeIdentities({
      entries: [
        { path: '/web', selectors: mine },
        { path: '/other', selectors: ['unix:uid:2000'] },
      ],
    })
    const attestation = fakeAttestation()
    await using endpoint = await testEndpoint({ identities, attestation })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    await stream.next()
    const { looks } = attestation
    identities.issue('/other')
    identities.issue('/web')
    await stream.next()
    expect(stream.waiting()).toBe(0)
    expect(attestation.looks).toBe(looks + 1)
  })

  test('WL-36 WL-87 WE-26 refuses a caller without an entry, and ends the stream of one that loses its last', async () => {
    const identities = fakeIdentities()
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const refused = received(endpoint.client.workload.fetchX509Svid({}, security()))
    expect(await refused.ended).toEqual(denied)

    identities.setEntries([{ path: '/web', selectors: mine }])
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    await stream.next()
    identities.setEntries([])
    expect(await stream.ended).toEqual(denied)
    expect(stream.waiting()).toBe(0)
    expect(endpoint.endpoints.streams()).toBe(0)
  })

  test('WE-24 is unavailable until the agent holds something', async () => {
    const identities = fakeIdentities({ entries: [{ path: '/web', selectors: mine }] })
    identities.setReady(false)
    const attestation = fakeAttestation()
    await using endpoint = await testEndpoint({ identities, attestation })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    expect(await stream.ended).toMatchObject({ code: status.UNAVAILABLE })
    expect(attestation.looks).toBe(0)
  })
})

describe('an SVID that is not in hand', () => {
  test('WL-30 is waited for, so that the first message is complete', async () => {
    const identities = fakeIdentities({
      entries: ['/a', '/b'].map((path) => ({ path, selectors: mine })),
      prefetch: false,
    })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    identities.issue('/b')
    identities.issue('/a')
    expect((await stream.next()).svids).toHaveLength(2)
  })

  test('is left out when the sentry cannot be asked, and the others are served', async () => {
    const identities = fakeIdentities({
      entries: ['/a', '/b'].map((path) => ({ path, selectors: mine })),
      prefetch: false,
    })
    identities.issue('/b')
    identities.fail(sentryAway())
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    expect((await stream.next()).svids.map(({ spiffeId }) => spiffeId)).toEqual([
      'spiffe://prod.example/b',
    ])
    identities.fail(undefined)
    identities.issue('/a')
    expect((await stream.next()).svids).toHaveLength(2)
  })

  test('makes the call unavailable when it is the only one', async () => {
    const identities = fakeIdentities({
      entries: [{ path: '/a', selectors: mine }],
      prefetch: false,
    })
    identities.fail(sentryAway())
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    expect(await stream.ended).toEqual({
      code: status.UNAVAILABLE,
      details: 'identity is not available yet',
    })
  })

  test('is not waited for longer than the patience that is set', async () => {
    const identities = fakeIdentities({
      entries: [{ path: '/a', selectors: mine }],
      prefetch: false,
    })
    await using endpoint = await testEndpoint({
      identities,
      attestation: fakeAttestation(),
      patienceMs: 20,
    })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    expect(await stream.ended).toMatchObject({ code: status.UNAVAILABLE })
  })

  test('WL-87 stops being waited for when the entry goes', async () => {
    const identities = fakeIdentities({
      entries: [{ path: '/a', selectors: mine }],
      prefetch: false,
    })
    const attestation = fakeAttestation()
    await using endpoint = await testEndpoint({ identities, attestation, patienceMs: 3_600_000 })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    while (attestation.looks === 0) await new Promise((resolve) => setImmediate(resolve))
    identities.setEntries([])
    expect(await stream.ended).toEqual(denied)
  })
})

describe('FetchX509Bundles', () => {
  test('WL-40 holds our own bundle and the federated ones in one map, also after a change', async () => {
    const identities = fakeIdentities({
      entries: [{ path: '/web', selectors: mine, federatesWith: ['partner.example'] }],
      federated: [partner],
    })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = received(endpoint.client.workload.fetchX509Bundles({}, security()))
    const { bundles, crl } = await stream.next()
    expect(crl).toEqual([])
    expect([...bundles.keys()].sort()).toEqual([
      'spiffe://partner.example',
      'spiffe://prod.example',
    ])

    const successor = testAuthority('prod.example').bundle.x509Authorities
    const { bundle } = identities.authority
    identities.setBundle({ ...bundle, x509Authorities: [...bundle.x509Authorities, ...successor] })
    const next = (await stream.next()).bundles
    expect(splitCertificates(next.get('spiffe://prod.example')!)).toHaveLength(2)

    identities.removeBundle('partner.example')
    expect([...(await stream.next()).bundles.keys()]).toEqual(['spiffe://prod.example'])
  })

  test('says by its absence that a trust domain has revoked all its keys', async () => {
    const identities = fakeIdentities({
      entries: [{ path: '/web', selectors: mine, federatesWith: ['partner.example'] }],
      federated: [partner],
    })
    identities.setBundle({ ...partner.bundle, x509Authorities: [] })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = received(endpoint.client.workload.fetchX509Bundles({}, security()))
    expect([...(await stream.next()).bundles.keys()]).toEqual(['spiffe://prod.example'])
  })

  test('WL-41 refuses a caller without an entry', async () => {
    await using endpoint = await testEndpoint({ attestation: fakeAttestation() })
    const stream = received(endpoint.client.workload.fetchX509Bundles({}, security()))
    expect(await stream.ended).toEqual(denied)
  })

  test('WL-29 accepts fields in the request that it does not know', async () => {
    const identities = fakeIdentities({ entries: [{ path: '/web', selectors: mine }] })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const { fetchX509Bundles: method } = (await import('../../../spiffe/workload-api/index.js'))
      .SpiffeWorkloadAPIService
    const unknownField = Buffer.from([0x9a, 0x06, 0x03, 0x61, 0x62, 0x63])
    const stream = received(
      endpoint.client.workload.makeServerStreamRequest(
        method.path,
        () => unknownField,
        method.responseDeserialize,
        {},
        security(),
      ),
    )
    expect((await stream.next()).bundles.size).toBe(1)
  })
})

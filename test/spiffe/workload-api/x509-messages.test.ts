import { generateKeyPairSync } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { idOfTrustDomain, toPem, type X509Svid } from '../../../spiffe/index.js'
import { X509SVIDResponse } from '../../../spiffe/workload-api/index.js'
import { readX509Bundles, readX509Context } from '../../../spiffe/workload-api/x509-messages.js'
import { type TestAuthority, testAuthority } from '../../support/authority.js'

const now = new Date('2026-11-20T12:00:00Z')
const a = testAuthority('a.example', { now })
const b = testAuthority('b.example', { now })
const web = a.issueX509({ id: '/web' })
const api = a.issueX509({ id: '/api' })

const chainOf = (svid: X509Svid) => Buffer.concat(svid.chain.map(({ der }) => der))
const keyOf = (svid: X509Svid) => svid.privateKey.export({ type: 'pkcs8', format: 'der' })
const rootsOf = ({ bundle }: TestAuthority) =>
  Buffer.concat(bundle.x509Authorities.map(({ der }) => der))
const keyFor = ({ trustDomain }: TestAuthority) => idOfTrustDomain(trustDomain)

const entry = (svid: X509Svid, hint = '') => ({
  spiffeId: svid.id as string,
  x509Svid: chainOf(svid),
  x509SvidKey: keyOf(svid),
  bundle: rootsOf(a),
  hint,
})
const message = (...svids: ReturnType<typeof entry>[]): X509SVIDResponse => ({
  svids,
  crl: [],
  federatedBundles: new Map(),
})
const read = (
  response: X509SVIDResponse,
  previous = readX509Context(message(entry(api)), { now, previous: undefined }),
) => readX509Context(response, { now, previous })

const invalid = (reason: string) =>
  expect.objectContaining({
    code: 'CS_RESPONSE_INVALID',
    message: expect.stringContaining(reason) as string,
  }) as Error

describe('readX509Context', () => {
  test('WL-25, WL-27: reads identity, chain, key and the bundles by trust domain', () => {
    const response = {
      ...message(entry(web)),
      federatedBundles: new Map([[keyFor(b), rootsOf(b)]]),
    }
    const { svids, bundles, crls } = read(response)
    expect(svids[0].id).toBe('spiffe://a.example/web')
    expect(svids[0].chain.map(({ fingerprint }) => fingerprint)).toEqual(
      web.chain.map(({ fingerprint }) => fingerprint),
    )
    expect(svids[0].privateKey.equals(web.privateKey)).toBe(true)
    expect([...bundles.keys()]).toEqual(['a.example', 'b.example'])
    expect(crls).toEqual([])
  })

  test('WL-28: the bundles hold nothing that could verify a JWT', () => {
    const bundles = [...read(message(entry(web))).bundles.values()]
    expect(bundles.every(({ jwtAuthorities }) => jwtAuthorities.size === 0)).toBe(true)
  })

  test('WL-84: keeps the order, so the default identity is the first', () => {
    expect(read(message(entry(web), entry(api))).svids.map(({ id }) => id)).toEqual([
      web.id,
      api.id,
    ])
    expect(read(message(entry(api), entry(web))).svids[0].id).toBe(api.id)
  })

  test('WL-34: a hint that repeats is kept on both, and the first of them is found first', () => {
    const { svids } = read(message(entry(web, 'internal'), entry(api, 'internal')))
    expect(svids.find(({ hint }) => hint === 'internal')?.id).toBe(web.id)
  })

  test.each([
    ['1024 bytes', 'é'.repeat(512), 'é'.repeat(512)],
    ['1025 bytes', `${'é'.repeat(512)}x`, undefined],
    ['nothing', '', undefined],
  ])('WL-85: a hint of %s', (_, hint, expected) => {
    expect(read(message(entry(web, hint))).svids[0].hint).toBe(expected)
  })

  test('WL-16, WL-17, WL-18: what a message leaves out is withdrawn', () => {
    const full = {
      ...message(entry(web, 'internal')),
      crl: [Buffer.from([0x30, 0])],
      federatedBundles: new Map([[keyFor(b), rootsOf(b)]]),
    }
    const before = read(full)
    expect(before.bundles.has(b.trustDomain)).toBe(true)
    const after = read(message(entry(web)), before)
    expect(after.bundles.has(b.trustDomain)).toBe(false)
    expect(after.crls).toEqual([])
    expect(after.svids[0].hint).toBeUndefined()
  })

  test('WL-27: the bundle that comes with the SVID counts, not one of the same name in the map', () => {
    const response = {
      ...message(entry(web)),
      federatedBundles: new Map([[keyFor(a), rootsOf(b)]]),
    }
    const [authority] = read(response).bundles.get(a.trustDomain)?.x509Authorities ?? []
    expect(authority?.fingerprint).toBe(a.root.certificate.fingerprint)
  })

  test('WL-88: an identical message gives the very same context', () => {
    const once = read(message(entry(web, 'x'), entry(api)))
    expect(read(message(entry(web, 'x'), entry(api)), once)).toBe(once)
    expect(read(message(entry(api), entry(web, 'x')), once)).not.toBe(once)
  })

  test('what did not change is the same object, so that cached verdicts live on', () => {
    const before = read({
      ...message(entry(web)),
      federatedBundles: new Map([[keyFor(b), rootsOf(b)]]),
    })
    const after = read(
      { ...message(entry(web), entry(api)), federatedBundles: new Map([[keyFor(b), rootsOf(b)]]) },
      before,
    )
    expect(after).not.toBe(before)
    expect(after.svids[0]).toBe(before.svids[0])
    expect(after.bundles.get(a.trustDomain)).toBe(before.bundles.get(a.trustDomain))
    expect(after.bundles.get(b.trustDomain)).toBe(before.bundles.get(b.trustDomain))
  })

  test('an empty federated bundle is one that revokes everything', () => {
    const response = {
      ...message(entry(web)),
      federatedBundles: new Map([[keyFor(b), Buffer.alloc(0)]]),
    }
    expect(read(response).bundles.get(b.trustDomain)?.x509Authorities).toEqual([])
  })

  const empty = Buffer.alloc(0)
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
  const sec1 = web.privateKey.export({ type: 'sec1', format: 'der' })
  const stranger = testAuthority('a.example', { now })
  const expired = a.issueX509({ id: '/web', notBefore: new Date(0), notAfter: new Date(1000) })

  test.each([
    ['WL-30: no svid', message(), 'response holds no svid'],
    [
      'WL-20: an empty spiffe_id',
      message({ ...entry(web), spiffeId: '' }),
      'svid 0: spiffe_id is empty',
    ],
    [
      'WL-20: an empty x509_svid',
      message({ ...entry(web), x509Svid: empty }),
      'svid 0: x509_svid is empty',
    ],
    [
      'WL-20: an empty key',
      message({ ...entry(web), x509SvidKey: empty }),
      'svid 0: x509_svid_key is empty',
    ],
    [
      'WL-20: an empty bundle',
      message({ ...entry(web), bundle: empty }),
      'svid 0: bundle is empty',
    ],
    [
      'one bad svid among good ones',
      message(entry(api), { ...entry(web), x509SvidKey: empty }),
      'svid 1:',
    ],
    [
      'another spiffe id than in the leaf',
      message({ ...entry(web), spiffeId: api.id }),
      'another spiffe id',
    ],
    ['the id of a trust domain', message({ ...entry(web), spiffeId: keyFor(a) }), 'no path'],
    [
      'WL-23: PEM',
      message({ ...entry(web), x509Svid: Buffer.from(toPem('CERTIFICATE', web.chain[0].der)) }),
      'svid 0:',
    ],
    [
      'WL-24: the intermediate first',
      message({
        ...entry(web),
        x509Svid: Buffer.concat(web.chain.map(({ der }) => der).toReversed()),
      }),
      'svid 0:',
    ],
    [
      'bytes after the chain',
      message({ ...entry(web), x509Svid: Buffer.concat([chainOf(web), Buffer.from([0])]) }),
      'svid 0:',
    ],
    [
      'WL-26: the key of another leaf',
      message({ ...entry(web), x509SvidKey: keyOf(api) }),
      'svid 0:',
    ],
    [
      'WL-26: a key of another kind',
      message({ ...entry(web), x509SvidKey: rsa.export({ type: 'pkcs8', format: 'der' }) }),
      'svid 0:',
    ],
    ['WL-26: a key in SEC1', message({ ...entry(web), x509SvidKey: sec1 }), 'svid 0:'],
    [
      'WL-35: a bundle that did not issue the leaf',
      message({ ...entry(web), bundle: rootsOf(stranger) }),
      'svid 0:',
    ],
    [
      'WL-35: the bundle of another trust domain',
      message({ ...entry(web), bundle: rootsOf(b) }),
      'svid 0:',
    ],
    [
      'two bundles for one trust domain',
      message(entry(web), { ...entry(api), bundle: rootsOf(stranger) }),
      'svid 1: bundle differs',
    ],
    ['an expired svid', message(entry(expired)), 'svid 0:'],
    [
      'a bundle that is no certificate',
      message({ ...entry(web), bundle: Buffer.from('hello') }),
      'svid 0:',
    ],
  ])('refuses %s', (_, response, reason) => {
    expect(() => read(response)).toThrow(invalid(reason))
  })

  test.each([
    ['a bare name', 'b.example'],
    ['a trailing slash', 'spiffe://b.example/'],
    ['a path', 'spiffe://b.example/web'],
    ['nothing', ''],
    ['capitals', 'spiffe://B.example'],
    ['the name of a prototype', '__proto__'],
  ])('WL-27: refuses %s as the key of a bundle', (_, key) => {
    const response = { ...message(entry(web)), federatedBundles: new Map([[key, rootsOf(b)]]) }
    expect(() => read(response)).toThrow(invalid('key of a bundle'))
  })

  test('never says anything about the key', () => {
    const secret = keyOf(api).toString('base64')
    try {
      read(message({ ...entry(web), x509SvidKey: keyOf(api) }))
      expect.unreachable()
    } catch (error) {
      expect(String((error as Error).stack)).not.toContain(secret.slice(20, 60))
    }
  })

  test('a message with one byte changed is refused by code or read in full', () => {
    const bytes = Buffer.from(X509SVIDResponse.encode(message(entry(web))).finish())
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const damaged = Buffer.from(bytes)
        damaged[at] = (damaged[at] ?? 0) ^ flip
        let response: X509SVIDResponse
        try {
          response = X509SVIDResponse.decode(damaged)
        } catch {
          return
        }
        try {
          expect(read(response).svids[0].id).toMatch(/^spiffe:\/\/a\.example\//)
        } catch (error) {
          expect(error).toHaveProperty('code', 'CS_RESPONSE_INVALID')
        }
      }),
      { numRuns: 300 },
    )
  })
})

describe('readX509Bundles', () => {
  const response = (...authorities: TestAuthority[]) => ({
    crl: [],
    bundles: new Map(
      authorities.map((authority) => [keyFor(authority) as string, rootsOf(authority)]),
    ),
  })

  test('WL-40: reads own and foreign bundles out of one map', () => {
    expect([...readX509Bundles(response(a, b), undefined).keys()]).toEqual([
      'a.example',
      'b.example',
    ])
  })

  test('WL-39: they hold nothing that could verify a JWT', () => {
    const bundles = [...readX509Bundles(response(a, b), undefined).values()]
    expect(bundles.map(({ jwtAuthorities }) => jwtAuthorities.size)).toEqual([0, 0])
  })

  test('WL-43: what a message leaves out is withdrawn, and an identical one changes nothing', () => {
    const both = readX509Bundles(response(a, b), undefined)
    expect(readX509Bundles(response(a, b), both)).toBe(both)
    const one = readX509Bundles(response(a), both)
    expect([...one.keys()]).toEqual(['a.example'])
    expect(one.get(a.trustDomain)).toBe(both.get(a.trustDomain))
  })

  test.each([
    ['an empty map', new Map<string, Uint8Array>(), 'response holds no bundle'],
    ['a key that is no id', new Map([['a.example', rootsOf(a)]]), 'key of a bundle'],
    [
      'damaged certificates',
      new Map([[keyFor(a), rootsOf(a).subarray(1)]]),
      'bundle of spiffe://a.example',
    ],
  ])('refuses %s', (_, bundles, reason) => {
    expect(() => readX509Bundles({ crl: [], bundles: new Map(bundles) }, undefined)).toThrow(
      invalid(reason),
    )
  })
})

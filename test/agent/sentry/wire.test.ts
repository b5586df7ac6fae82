import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readBundle, readEntry, readX509Svid } from '../../../agent/sentry/wire.js'
import { Bundle, Entry } from '../../../proto/gen/spire/api/types/types.js'
import { parseTrustDomain, type X509Svid } from '../../../spiffe/index.js'
import { testAuthority } from '../../support/authority.js'
import { entry, wireBundle } from '../../support/fake-sentry.js'

const trustDomain = parseTrustDomain('prod.example')
const authority = testAuthority('prod.example')
const unusable = expect.objectContaining({ code: 'CS_SENTRY_RESPONSE_INVALID' })

describe('an entry', () => {
  const good = () => entry({ id: 'web', path: '/web', selectors: ['unix:uid:1000'] })

  test('is read with all that the agent needs', () => {
    const wire = entry({
      id: 'web',
      path: '/web',
      selectors: ['unix:uid:1000', 'docker:label:a:b'],
      federatesWith: ['spiffe://partner.example', 'other.example', 'prod.example'],
      hint: 'internal',
      revision: 3,
      createdAt: 5,
      onDemand: true,
    })
    expect(readEntry(wire, trustDomain)).toEqual({
      id: 'web',
      spiffeId: 'spiffe://prod.example/web',
      selectors: [
        { type: 'unix', value: 'uid:1000' },
        { type: 'docker', value: 'label:a:b' },
      ],
      federatesWith: ['partner.example', 'other.example'],
      hint: 'internal',
      admin: false,
      downstream: false,
      revision: 3n,
      createdAt: 5n,
      onDemand: true,
    })
  })

  test('may write the trust domain of its SPIFFE ID as an ID', () => {
    const wire = { ...good(), spiffeId: { trustDomain: 'spiffe://prod.example', path: '/web' } }
    expect(readEntry(wire, trustDomain).spiffeId).toBe('spiffe://prod.example/web')
  })

  test.each<[string, Partial<Entry>]>([
    ['no id', { id: '' }],
    ['an id of 256 characters', { id: 'a'.repeat(256) }],
    ['no SPIFFE ID', { spiffeId: undefined }],
    ['no path', { spiffeId: { trustDomain: 'prod.example', path: '' } }],
    ['a path without a slash', { spiffeId: { trustDomain: 'prod.example', path: 'web' } }],
    ['a dot segment', { spiffeId: { trustDomain: 'prod.example', path: '/a/../b' } }],
    ['a foreign trust domain', { spiffeId: { trustDomain: 'partner.example', path: '/web' } }],
    ['no selectors', { selectors: [] }],
    ['a selector without a type', { selectors: [{ type: '', value: 'x' }] }],
    ['a selector without a value', { selectors: [{ type: 'unix', value: '' }] }],
    ['a selector with a colon in its type', { selectors: [{ type: 'unix:uid', value: '0' }] }],
    ['a malformed federated trust domain', { federatesWith: ['Partner.Example'] }],
  ])('with %s is refused', (_, change) => {
    expect(() => readEntry({ ...good(), ...change }, trustDomain)).toThrow(unusable)
  })

  test('that is any bytes is read or refused by code', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        try {
          readEntry(Entry.decode(bytes), trustDomain)
        } catch (error) {
          const code = (error as { code?: string }).code
          expect(code ?? (error as Error).message).toBeTruthy()
          if (code) expect(code).toBe('CS_SENTRY_RESPONSE_INVALID')
        }
      }),
    )
  })
})

describe('a bundle', () => {
  test('is read with what its owner has tainted', () => {
    const root = authority.root.certificate.fingerprint
    const wire = wireBundle(authority.bundle, { taintedX509: [root], taintedJwt: ['jwt-es256'] })
    const { bundle, taintedX509, taintedJwt } = readBundle(wire)
    expect(bundle).toMatchObject({ trustDomain: 'prod.example', sequence: 1n, refreshHint: 300 })
    expect(bundle.x509Authorities.map(({ fingerprint }) => fingerprint)).toEqual([root])
    expect([...bundle.jwtAuthorities.keys()]).toEqual(['jwt-es256'])
    expect([...taintedX509]).toEqual([root])
    expect([...taintedJwt]).toEqual(['jwt-es256'])
  })

  const { der } = authority.root.certificate
  test.each<[string, (bundle: Bundle) => void]>([
    ['no trust domain', (bundle) => Object.assign(bundle, { trustDomain: '' })],
    [
      'a certificate cut short',
      (bundle) => Object.assign(bundle.x509Authorities[0]!, { asn1: der.subarray(1) }),
    ],
    [
      'two certificates in one',
      (bundle) => Object.assign(bundle.x509Authorities[0]!, { asn1: Buffer.concat([der, der]) }),
    ],
    [
      'a JWT key without an id',
      (bundle) => Object.assign(bundle.jwtAuthorities[0]!, { keyId: '' }),
    ],
    [
      'a JWT key that is no key',
      (bundle) => Object.assign(bundle.jwtAuthorities[0]!, { publicKey: new Uint8Array(3) }),
    ],
  ])('with %s is refused as a whole', (_, change) => {
    const wire = Bundle.decode(Bundle.encode(wireBundle(authority.bundle)).finish())
    change(wire)
    expect(() => readBundle(wire)).toThrow(unusable)
  })
})

describe('an issued SVID', () => {
  const svid = authority.issueX509({ id: '/web' })
  const keyOf = ({ privateKey, chain: [{ publicKeyInfo }] }: X509Svid) => ({
    privateKey,
    publicKeyInfo,
  })
  const wire = (certChain: Uint8Array[]) => ({ certChain, id: undefined, expiresAt: 0n, hint: '' })
  const ders = svid.chain.map(({ der }) => der)
  const key = keyOf(svid)
  const other = keyOf(authority.issueX509({ id: '/web' }))

  test('is read with its key', () => {
    const read = readX509Svid(wire(ders), { key, hint: 'internal' })
    expect(read).toMatchObject({ id: 'spiffe://prod.example/web', hint: 'internal' })
    expect(read.privateKey).toBe(svid.privateKey)
  })

  test.each<[string, Parameters<typeof readX509Svid>[0], typeof key]>([
    ['that is missing', undefined, key],
    ['without a chain', wire([]), key],
    ['for another key', wire(ders), other],
    ['with a broken certificate', wire([ders[0]!.subarray(0, 90)]), key],
    ['with a broken issuer', wire([ders[0]!, ders[1]!.subarray(0, 90)]), key],
    ['that is a CA', wire([authority.issuer.certificate.der]), key],
  ])('%s is refused', (_, issued, requested) => {
    expect(() => readX509Svid(issued, { key: requested })).toThrow(unusable)
  })
})

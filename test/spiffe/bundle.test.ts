import { createPublicKey, type JsonWebKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { createLocalJWKSet, importJWK, jwtVerify } from 'jose'
import { describe, expect, test } from 'vitest'
import {
  bundleSet,
  jwtKeySetOf,
  parseCertificate,
  parseTrustDomain,
  readBundleDocument,
  readBundleMap,
  readJwtKeySet,
  verifyJwtSvid,
  verifyX509Svid,
  writeBundleDocument,
  writeBundleMap,
} from '../../spiffe/index.js'
import { testAuthority } from '../support/authority.js'
import { codeOf } from './code-of.js'
import { issuer, keys, leaf, NOW, root } from './x509-world.js'

const td = parseTrustDomain('td.example')

/** Reads a document given as text, bytes or a value, and keeps what it warns of. */
function read(document: unknown) {
  const warnings: string[] = []
  const bytes =
    document instanceof Uint8Array
      ? document
      : Buffer.from(typeof document === 'string' ? document : JSON.stringify(document))
  const bundle = readBundleDocument(bytes, td, { onWarning: (message) => warnings.push(message) })
  return { bundle, warnings }
}

const jwkOf = (role: string, kind?: Parameters<typeof keys>[1]) =>
  keys(role, kind).publicKey.export({ format: 'jwk' })

const rootEntry = (der = root(), role = 'root') => ({
  ...jwkOf(role),
  use: 'x509-svid',
  x5c: [Buffer.from(der).toString('base64')],
})
const jwtEntry = (kid: unknown = 'jwt-1', jwk: JsonWebKey = jwkOf('jwt')) => ({
  ...jwk,
  use: 'jwt-svid',
  kid,
})

test('reads the example of the standards notes, and a chain and a token under it', () => {
  const harbour = (name: string) =>
    readFileSync(new URL(`../vectors/spiffe/harbour/${name}`, import.meta.url))
  const domain = parseTrustDomain('harbour.example')
  const bundle = readBundleDocument(harbour('bundle.json'), domain)
  expect([bundle.sequence, bundle.refreshHint]).toEqual([41n, 300])
  expect(bundle.x509Authorities).toHaveLength(1)
  // OPEN-21: the wit-svid key beside it is not used.
  expect([...bundle.jwtAuthorities.keys()]).toEqual(['jwt-2031a'])

  const bundles = bundleSet([bundle])
  const now = new Date('2031-01-01T00:00:30Z')
  const pem = harbour('leaf.pem')
    .toString()
    .replaceAll(/-----.*-----|\s/g, '')
  const id = 'spiffe://harbour.example/ns/quay/app/crane'
  expect(verifyX509Svid({ chain: [Buffer.from(pem, 'base64')], bundles, now }).id).toBe(id)
  const audience = 'spiffe://harbour.example/ns/quay/app/ledger'
  const token = harbour('jwt-svid.txt').toString().trim()
  expect(verifyJwtSvid({ token, bundles, audience, now }).id).toBe(id)
  const wit = harbour('wit-svid.txt').toString().trim()
  expect(codeOf(() => verifyJwtSvid({ token: wit, bundles, audience, now }))).toBe(
    'CS_JWT_SVID_INVALID',
  )
})

const sameRoot = rootEntry()

describe('what a bundle may look like', () => {
  test.each([
    ['TB-8', 'keys and nothing else', { keys: [rootEntry(), jwtEntry()] }, 1, 1],
    ['TB-7', 'members nobody knows', { keys: [rootEntry()], extra: { a: [1] } }, 1, 0],
    [
      'TB-1 X509-50',
      'two roots',
      { keys: [rootEntry(), rootEntry(root({ keys: keys('next') }), 'next')] },
      2,
      0,
    ],
    [
      'X509-49',
      'more than one certificate in an entry',
      {
        keys: [
          {
            ...rootEntry(),
            x5c: [...rootEntry().x5c, ...rootEntry(root({ keys: keys('next') })).x5c],
          },
        ],
      },
      1,
      0,
    ],
    ['X509-43', 'a kid on a root', { keys: [{ ...rootEntry(), kid: 'root' }] }, 1, 0],
    ['X509-41', 'the same root twice', { keys: [sameRoot, sameRoot] }, 1, 0],
    ['TB-18', 'no keys: everything is revoked', { keys: [] }, 0, 0],
    ['X509-51', 'JWT keys only', { keys: [jwtEntry()] }, 0, 1],
    ['JWT-30', 'roots only', { keys: [rootEntry()] }, 1, 0],
    [
      'JWT-26',
      'two JWT keys of two kinds',
      { keys: [jwtEntry(), jwtEntry('rsa', jwkOf('jwt', 'rsa-2048'))] },
      0,
      2,
    ],
    [
      'JWT-26',
      'JWT keys on every curve',
      {
        keys: [
          jwtEntry('a'),
          jwtEntry('b', jwkOf('jwt', 'P-384')),
          jwtEntry('c', jwkOf('jwt', 'P-521')),
        ],
      },
      0,
      3,
    ],
    [
      'X509-47',
      'an Ed25519 root',
      {
        keys: [
          {
            ...jwkOf('ed', 'ed25519'),
            use: 'x509-svid',
            x5c: [Buffer.from(root({ keys: keys('ed', 'ed25519') })).toString('base64')],
          },
        ],
      },
      1,
      0,
    ],
  ])('%s: %s', (_, __, document, roots, jwtKeys) => {
    const { bundle, warnings } = read(document)
    expect([bundle.x509Authorities.length, bundle.jwtAuthorities.size]).toEqual([roots, jwtKeys])
    expect(warnings).toEqual([])
  })
})

describe('an entry that is passed over while the others load', () => {
  test.each([
    ['TB-25', 'no use', { ...rootEntry(), use: undefined }, 0],
    ['TB-24', 'a use in capitals', { ...rootEntry(), use: 'X509-SVID' }, 0],
    ['TB-25', 'the use of plain JOSE', { ...jwtEntry('x'), use: 'sig' }, 0],
    ['OPEN-21', 'the use of WIT-SVIDs', { ...jwtEntry('x'), use: 'wit-svid' }, 0],
    ['TB-22', 'an unknown kty', { kty: 'AKP', use: 'jwt-svid', kid: 'z' }, 1],
    ['TB-22', 'an unknown kty on a root', { ...rootEntry(), kty: 'AKP' }, 1],
    ['TB-22', 'no kty', { use: 'jwt-svid', kid: 'z' }, 1],
    ['TB-17', 'a curve nobody uses', jwtEntry('x', jwkOf('x', 'secp256k1')), 1],
    ['TB-17', 'a symmetric key', { kty: 'oct', k: 'AAAA', use: 'jwt-svid', kid: 'x' }, 1],
    ['JWT-6', 'an Ed25519 key for JWTs', jwtEntry('x', jwkOf('x', 'ed25519')), 1],
    ['X509-48', 'a root without x5c', { ...rootEntry(), x5c: undefined }, 1],
    ['X509-48', 'a root with an empty x5c', { ...rootEntry(), x5c: [] }, 1],
    ['JWT-28 OPEN-7', 'a JWT key without a kid', { ...jwtEntry(), kid: undefined }, 1],
    ['OPEN-7', 'a JWT key with an empty kid', jwtEntry(''), 1],
    ['OPEN-7', 'a JWT key with a number as kid', jwtEntry(5), 1],
    ['JWT-28', 'an RSA key of 1024 bits', jwtEntry('x', jwkOf('x', 'rsa-1024')), 1],
    ['ID-36', 'a private key', jwtEntry('x', keys('x').privateKey.export({ format: 'jwk' })), 1],
    ['TB-17', 'something that is no object', 'x', 0],
  ])('%s: %s', (_, __, entry, warned) => {
    const { bundle, warnings } = read({ keys: [entry, rootEntry(), jwtEntry('good')] })
    expect(bundle.x509Authorities).toHaveLength(1)
    expect([...bundle.jwtAuthorities.keys()]).toEqual(['good'])
    expect(warnings).toHaveLength(warned)
  })

  test('OPEN-7: a kid that occurs twice, whatever the keys', () => {
    const { bundle, warnings } = read({
      keys: [jwtEntry('a'), jwtEntry('b'), jwtEntry('a', jwkOf('other'))],
    })
    expect([...bundle.jwtAuthorities.keys()]).toEqual(['b'])
    expect(warnings).toHaveLength(2)
  })

  test('as many as a trust domain can have are looked at once each', () => {
    const entries = (count: number) =>
      Array.from({ length: count }, (_, at) => ({ use: 'jwt-svid', kid: `${at}` }))
    expect(read({ keys: entries(512) }).warnings).toHaveLength(512)
    expect(codeOf(() => read({ keys: entries(513) }))).toBe('CS_BUNDLE_INVALID')
    const keySet = Buffer.from(JSON.stringify({ keys: entries(513) }))
    expect(codeOf(() => readJwtKeySet(keySet))).toBe('CS_BUNDLE_INVALID')
  })
})

/** A root whose SubjectPublicKeyInfo has something else where its algorithm is named. */
function withBrokenKey(): string {
  const { der, publicKeyInfo } = parseCertificate(root())
  const broken = Buffer.from(der)
  broken[broken.indexOf(publicKeyInfo) + 4] = 0x05
  return broken.toString('base64')
}

describe('a document that is refused as a whole', () => {
  const [x5c = ''] = rootEntry().x5c
  test.each([
    ['TB-16', 'no keys', '{}'],
    ['TB-16', 'keys that are no array', '{"keys":{}}'],
    ['TB-16', 'keys that are null', '{"keys":null}'],
    ['TB-6', 'no object', '[]'],
    ['TB-6', 'no JSON', 'keys'],
    ['TB-6', 'no UTF-8', Buffer.from('7b226b657973223a5b5d2c22ff223a317d', 'hex')],
    ['TB-6', 'more bytes than its limit', Buffer.alloc(4 * 1024 * 1024 + 1, ' ')],
    ['TRAP-2', 'a member twice', '{"keys":[],"keys":[]}'],
    [
      'TRAP-3 X509-44',
      'an x5c in base64url',
      { keys: [{ ...rootEntry(), x5c: [`${x5c.slice(0, -4)}_-==`] }] },
    ],
    [
      'X509-44',
      'an x5c with line ends',
      { keys: [{ ...rootEntry(), x5c: [`${x5c.slice(0, 64)}\n${x5c.slice(64)}`] }] },
    ],
    [
      'X509-44',
      'an x5c that is PEM',
      { keys: [{ ...rootEntry(), x5c: [`-----BEGIN CERTIFICATE-----${x5c}`] }] },
    ],
    ['X509-44', 'an x5c that is no certificate', { keys: [{ ...rootEntry(), x5c: ['MAA='] }] }],
    ['X509-44', 'an x5c that is a number', { keys: [{ ...rootEntry(), x5c: [5] }] }],
    [
      'X509-44',
      'an x5c with a key that cannot be read',
      { keys: [{ ...rootEntry(), x5c: [withBrokenKey()] }] },
    ],
    [
      'X509-47',
      'a root with the key of another',
      { keys: [{ ...rootEntry(), ...jwkOf('other') }] },
    ],
    [
      'JWT-26',
      'a point that is not on its curve',
      { keys: [jwtEntry('a', { ...jwkOf('jwt'), x: Buffer.alloc(32, 1).toString('base64url') })] },
    ],
    [
      'JWT-26',
      'a coordinate that is too short',
      { keys: [jwtEntry('a', { ...jwkOf('jwt'), x: 'AAAA' })] },
    ],
    [
      'JWT-26',
      'a coordinate with padding',
      { keys: [jwtEntry('a', { ...jwkOf('jwt'), x: `${jwkOf('jwt').x}=` })] },
    ],
    ['JWT-26', 'a coordinate that is missing', { keys: [{ ...jwtEntry('a'), y: undefined }] }],
  ])('%s: %s', (_, __, document) => {
    expect(codeOf(() => read(document))).toBe('CS_BUNDLE_INVALID')
  })
})

describe('TB-10 TB-12 OPEN-11 sequence and refresh hint', () => {
  test.each([
    ['1', 1n],
    ['0', 0n],
    ['9007199254740992', 2n ** 53n],
    ['9007199254740993', 2n ** 53n + 1n],
    ['18446744073709551615', 2n ** 64n - 1n],
  ])('%s is kept exactly', (literal, expected) => {
    expect(read(`{"spiffe_sequence":${literal},"keys":[]}`).bundle.sequence).toBe(expected)
  })

  test.each([
    '18446744073709551616',
    '-1',
    '1.5',
    '"1"',
    'null',
    'true',
    '[1]',
    '1e400',
    `1${'0'.repeat(70)}`,
  ])('%s counts as absent', (literal) => {
    const { bundle, warnings } = read(
      `{"spiffe_sequence":${literal},"spiffe_refresh_hint":${literal},"keys":[]}`,
    )
    expect([bundle.sequence, bundle.refreshHint]).toEqual([undefined, undefined])
    expect(warnings).toHaveLength(2)
  })
})

const authority = testAuthority('td.example', { now: NOW, rsaJwt: true })

test('X509-41 JWT-26 reads back the document that it writes', () => {
  const bundle = { ...authority.bundle, sequence: 2n ** 64n - 1n }
  const again = readBundleDocument(Buffer.from(writeBundleDocument(bundle)), td)
  expect([again.sequence, again.refreshHint]).toEqual([2n ** 64n - 1n, 300])
  expect(again.x509Authorities.map(({ fingerprint }) => fingerprint)).toEqual([
    authority.root.certificate.fingerprint,
  ])
  for (const [keyId, { publicKey }] of bundle.jwtAuthorities) {
    expect(again.jwtAuthorities.get(keyId)?.publicKey.equals(publicKey)).toBe(true)
  }
})

test('X509-42 X509-43 X509-45 X509-47 JWT-27 JWT-28 TB-20 TB-21 TB-23 publishes what the standard lists and no more', () => {
  const document = JSON.parse(writeBundleDocument(authority.bundle)) as {
    keys: Record<string, unknown>[]
  }
  const members = document.keys.map((entry) => Object.keys(entry).sort().join(' '))
  expect(members).toEqual(['crv kty use x x5c y', 'crv kid kty use x y', 'e kid kty n use'])
  expect(document.keys.map(({ use }) => use)).toEqual(['x509-svid', 'jwt-svid', 'jwt-svid'])
  expect(document.keys[0]?.['x5c']).toEqual([
    Buffer.from(authority.root.certificate.der).toString('base64'),
  ])
  const { kty, crv, x, y } = document.keys[0] as JsonWebKey
  const published = createPublicKey({ key: { kty, crv, x, y } as JsonWebKey, format: 'jwk' })
  expect(published.equals(authority.root.certificate.publicKey)).toBe(true)
})

test('publishes a bundle without sequence and hint, and an empty one', () => {
  expect(
    writeBundleDocument({ trustDomain: td, x509Authorities: [], jwtAuthorities: new Map() }),
  ).toBe('{"keys":[]}')
})

test('OPEN-24 writes a key set that a JOSE library verifies with', async () => {
  const text = jwtKeySetOf(authority.bundle)
  expect(text).not.toContain('use')
  const keySet = createLocalJWKSet(JSON.parse(text) as never)
  const token = authority.issueJwt({ id: '/a', audience: 'b' })
  const { payload } = await jwtVerify(token, keySet, { audience: 'b', currentDate: NOW })
  expect(payload.sub).toBe('spiffe://td.example/a')
  await expect(
    importJWK((JSON.parse(text) as { keys: never[] }).keys[1]!, 'RS256'),
  ).resolves.toBeDefined()
})

test('OPEN-24 reads a key set with and without use, and passes over another use', () => {
  const { use: _, ...bare } = jwtEntry('bare')
  const entries = [
    bare,
    jwtEntry('marked'),
    { ...jwtEntry('foreign'), use: 'sig' },
    { ...jwtEntry('wit'), use: 'wit-svid' },
  ]
  const found = readJwtKeySet(Buffer.from(JSON.stringify({ keys: entries })))
  expect([...found.keys()]).toEqual(['bare', 'marked'])
  expect([...readJwtKeySet(Buffer.from(jwtKeySetOf(authority.bundle))).keys()]).toEqual([
    'jwt-es256',
    'jwt-rs256',
  ])
})

test('TB-19 with every key gone, nothing of the trust domain is valid any more', () => {
  const bundles = bundleSet([read('{"spiffe_sequence":44,"keys":[]}').bundle])
  expect(codeOf(() => verifyX509Svid({ chain: [leaf(), issuer()], bundles, now: NOW }))).toBe(
    'CS_PEER_CHAIN_INVALID',
  )
  const token = authority.issueJwt({ id: '/a', audience: 'b' })
  expect(codeOf(() => verifyJwtSvid({ token, bundles, audience: 'b', now: NOW }))).toBe(
    'CS_JWT_KEY_UNKNOWN',
  )
})

test('TB-3 the later of two bundles for a trust domain is the one that a set holds', () => {
  const [first, second] = [read({ keys: [] }).bundle, read({ keys: [rootEntry()] }).bundle]
  expect(bundleSet([first, second]).bundleFor(td)).toBe(second)
  expect(codeOf(() => bundleSet([first]).bundleFor(parseTrustDomain('other.example')))).toBe(
    'CS_BUNDLE_NOT_FOUND',
  )
})

describe('bundle maps', () => {
  const readMap = (text: string) => readBundleMap(Buffer.from(text))

  test('TB-27 TB-33 reads back what it writes, and leaves refresh hints out', () => {
    const other = testAuthority('other.example', { now: NOW })
    const text = writeBundleMap([authority.bundle, { ...other.bundle, sequence: 2n ** 53n + 1n }])
    expect(text).not.toContain('refresh_hint')
    const map = readMap(text)
    expect([...map.keys()]).toEqual(['td.example', 'other.example'])
    expect(map.get(other.trustDomain)?.sequence).toBe(2n ** 53n + 1n)
    expect(map.get(other.trustDomain)?.x509Authorities[0]?.fingerprint).toBe(
      other.root.certificate.fingerprint,
    )
  })

  test('TB-29 an empty map clears the set', () => {
    expect(readMap('{"trust_domains":{}}').size).toBe(0)
    expect(writeBundleMap([])).toBe('{"trust_domains":{}}')
  })

  test('TB-34 OPEN-22 passes over refresh hints inside', () => {
    const map = readMap(
      '{"trust_domains":{"a":{"keys":[],"spiffe_refresh_hint":1,"refresh_hint":1}}}',
    )
    expect([...map.values()][0]).not.toHaveProperty('refreshHint')
  })

  test.each([
    ['TB-28', 'no trust_domains', '{"a":{"keys":[]}}'],
    ['TB-28', 'trust_domains that is an array', '{"trust_domains":[]}'],
    ['TB-28', 'no object', '[]'],
    ['TB-30', 'a key with the scheme', '{"trust_domains":{"spiffe://td.example":{"keys":[]}}}'],
    ['TB-30', 'a key in capitals', '{"trust_domains":{"TD.example":{"keys":[]}}}'],
    ['TB-30', 'an empty key', '{"trust_domains":{"":{"keys":[]}}}'],
    ['TB-32', 'a repeated name', '{"trust_domains":{"a":{"keys":[]},"a":{"keys":[]}}}'],
    [
      'TB-32',
      'a name repeated by escape',
      '{"trust_domains":{"a":{"keys":[]},"\\u0061":{"keys":[]}}}',
    ],
    ['TB-38', 'one malformed bundle of two', '{"trust_domains":{"a":{"keys":[]},"b":{}}}'],
    ['TB-38', 'a bundle that is null', '{"trust_domains":{"a":null}}'],
  ])('%s refuses %s', (_, __, text) => {
    expect(codeOf(() => readMap(text))).toBe('CS_BUNDLE_INVALID')
  })

  test('TB-31 writes no name twice', () => {
    expect(codeOf(() => writeBundleMap([authority.bundle, authority.bundle]))).toBe(
      'CS_BUNDLE_INVALID',
    )
  })
})

test('takes no damaged document for anything but a bundle or a refusal', () => {
  const good = writeBundleDocument(authority.bundle)
  const damaged = fc
    .tuple(
      fc.nat({ max: good.length - 1 }),
      fc.constantFrom('"', '{', '}', '[', ',', ':', '0', 'A', '=', '\\'),
    )
    .map(([at, character]) => good.slice(0, at) + character + good.slice(at + 1))
  fc.assert(
    fc.property(fc.oneof(damaged, fc.json()), (text) => {
      expect(['accepted', 'CS_BUNDLE_INVALID']).toContain(codeOf(() => read(text)))
    }),
    { numRuns: 500 },
  )
})

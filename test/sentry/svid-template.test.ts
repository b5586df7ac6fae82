import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { systemRandom } from '../../platform/random.js'
import { makeProvenKey } from '../../sentry/csr.js'
import { assertDnsNames } from '../../sentry/dns-name.js'
import { parseIpAddress } from '../../sentry/ip-address.js'
import { pooledRandom } from '../../sentry/random-pool.js'
import { emptySubject, subjectName } from '../../sentry/subject-name.js'
import {
  buildSvidTemplate,
  randomSerial,
  type SvidRequest,
  serialText,
} from '../../sentry/svid-template.js'
import { buildTokenTemplate, type TokenRequest } from '../../sentry/token-template.js'
import { parseSpiffeId, parseTrustDomain } from '../../spiffe/index.js'

const trustDomain = parseTrustDomain('prod.example')
const id = parseSpiffeId('spiffe://prod.example/api')
const { key } = makeProvenKey()
const noon = Date.parse('2026-11-20T12:00:00Z')
const DAY = 86_400_000

const template = (request: Partial<SvidRequest> = {}) =>
  buildSvidTemplate({
    trustDomain,
    authority: { notBefore: noon - DAY, notAfter: noon + DAY },
    now: new Date(noon),
    id,
    key,
    serialNumber: Uint8Array.of(1),
    ttlSeconds: 3600,
    dnsNames: [],
    ipAddresses: [],
    subject: emptySubject,
    ...request,
  })

const token = (request: Partial<TokenRequest> = {}) =>
  buildTokenTemplate({
    trustDomain,
    keyExpiresAt: noon + DAY,
    now: new Date(noon),
    subject: id,
    audience: ['orders'],
    ttlSeconds: 300,
    tokenId: 'one',
    issuer: undefined,
    ...request,
  })

const refusal = expect.objectContaining({ code: 'CS_ISSUE_REQUEST_INVALID' })

describe('a template', () => {
  test('begins ten seconds back and lasts as long as asked', () => {
    expect(template()).toMatchObject({ notBefore: noon - 10_000, notAfter: noon + 3_600_000 })
  })

  test('has whole seconds', () => {
    const made = template({ now: new Date(noon + 999) })
    expect(made).toMatchObject({ notBefore: noon - 10_000, notAfter: noon + 3_600_000 })
  })

  test('ends with its issuer, even to the second', () => {
    const ends = noon + 60_000
    const authority = { notBefore: noon - DAY, notAfter: ends }
    expect(template({ authority, ttlSeconds: 59 }).notAfter).toBe(ends - 1000)
    expect(template({ authority, ttlSeconds: 60 }).notAfter).toBe(ends)
    expect(template({ authority, ttlSeconds: 61 }).notAfter).toBe(ends)
  })

  test('does not begin before its issuer', () => {
    const authority = { notBefore: noon - 3000, notAfter: noon + DAY }
    expect(template({ authority }).notBefore).toBe(noon - 3000)
  })

  test.each([
    ['the ID of the trust domain itself (X509-6)', { id: parseSpiffeId('spiffe://prod.example') }],
    ['an ID of another trust domain (ID-42)', { id: parseSpiffeId('spiffe://other.example/api') }],
    [
      'an ID of a trust domain that only begins alike',
      { id: parseSpiffeId('spiffe://prod.example.org/api') },
    ],
    [
      'an ID of 2049 bytes (ID-24)',
      { id: `spiffe://prod.example/${'a'.repeat(2027)}` as typeof id },
    ],
    ['an ID that is none', { id: 'https://prod.example/api' as typeof id }],
    ['a lifetime of nothing', { ttlSeconds: 0 }],
    ['a lifetime below zero', { ttlSeconds: -1 }],
    ['a lifetime of half a second', { ttlSeconds: 0.5 }],
    ['a lifetime that is no number', { ttlSeconds: Number.NaN }],
    ['a lifetime without end', { ttlSeconds: Number.POSITIVE_INFINITY }],
    ['a DNS name that is none', { dnsNames: ['a b'] }],
  ])('is refused for %s', (_, request) => {
    expect(() => template(request)).toThrow(refusal)
  })

  test('holds an ID of 2048 bytes (ID-23)', () => {
    const longest = parseSpiffeId(`spiffe://prod.example/${'a'.repeat(2026)}`)
    expect(longest).toHaveLength(2048)
    expect(template({ id: longest }).id).toBe(longest)
  })
})

describe('a serial number', () => {
  test('is random, positive and at most 16 octets, without leading zeros', () => {
    const serials = Array.from({ length: 2000 }, () => randomSerial(systemRandom))
    expect(new Set(serials.map(serialText)).size).toBe(2000)
    for (const serial of serials) {
      expect(serial.length).toBeGreaterThan(0)
      expect(serial.length).toBeLessThanOrEqual(16)
      expect(serial[0]).not.toBe(0)
    }
  })

  test('is drawn again when it comes out as zero', () => {
    const draws = [new Uint8Array(16), Uint8Array.of(...new Uint8Array(14), 7, 0)]
    const serial = randomSerial({ bytes: () => draws.shift() ?? new Uint8Array() })
    expect([...serial]).toEqual([7, 0])
  })

  test('is drawn from a pool that hands out no byte twice', () => {
    let drawn = 0
    const counting = {
      bytes: (length: number) => Uint8Array.from({ length }, () => drawn++ & 0xff),
    }
    const pool = pooledRandom(counting)
    const bytes = Array.from({ length: 600 }, () => pool.bytes(16)).flatMap((part) => [...part])
    expect(bytes.every((byte, index) => byte === (index & 0xff))).toBe(true)
    expect(pool.bytes(5000)).toHaveLength(5000)
  })
})

describe('a DNS name', () => {
  test.each([
    'a',
    'localhost',
    'orders.prod.svc.cluster.local',
    '*.orders.example',
    'my_service',
    'xn--bcher-kva.example',
    'a1.2b',
    `${'a'.repeat(63)}.example`,
    `${'a.'.repeat(126)}a`,
  ])('may be %s', (name) => {
    expect(() => assertDnsNames([name])).not.toThrow()
  })

  test.each([
    ['empty', ''],
    ['a dot', '.'],
    ['one with a dot at the end', 'a.example.'],
    ['one with an empty label', 'a..example'],
    ['one with a label of 64', `${'a'.repeat(64)}.example`],
    ['one of 254 bytes', `${'a.'.repeat(126)}aa`],
    ['one with a dash in front', '-a.example'],
    ['one with a dash at the end', 'a-.example'],
    ['one with a blank', 'a b.example'],
    ['one with a NUL', 'a.example\0.evil'],
    ['one with a line end', 'a.example\n'],
    ['one beyond ASCII', 'bücher.example'],
    ['a bare star', '*'],
    ['a star over a top-level domain', '*.example'],
    ['a star inside', 'a.*.example'],
    ['a star in a label', 'a*.b.example'],
    ['two stars', '*.*.example'],
    ['an IPv4 address', '10.0.0.1'],
    ['an IPv6 address', '::1'],
    ['a URI', 'https://a.example'],
    ['a port', 'a.example:443'],
  ])('may not be %s', (_, name) => {
    expect(() => assertDnsNames([name])).toThrow(refusal)
  })

  test('may not come twice, in whatever case, nor a hundred and one times', () => {
    expect(() => assertDnsNames(['a.example', 'A.example'])).toThrow(refusal)
    const names = Array.from({ length: 101 }, (_, index) => `a${index}.example`)
    expect(() => assertDnsNames(names)).toThrow(refusal)
    expect(() => assertDnsNames(names.slice(1))).not.toThrow()
  })
})

describe('an IP address', () => {
  test.each([
    ['127.0.0.1', '7f000001'],
    ['255.0.10.1', 'ff000a01'],
    ['::', '0'.repeat(32)],
    ['::1', `${'0'.repeat(31)}1`],
    ['2001:db8::', `20010db8${'0'.repeat(24)}`],
    ['2001:DB8:1:2:3:4:5:6', '20010db8000100020003000400050006'],
    ['fe80::1:2', `fe80${'0'.repeat(20)}00010002`],
    ['::ffff:10.0.0.1', `${'0'.repeat(20)}ffff0a000001`],
    ['1::8:7', `0001${'0'.repeat(20)}00080007`],
  ])('%s has its bytes', (text, hex) => {
    expect(Buffer.from(parseIpAddress(text)).toString('hex')).toBe(hex)
  })

  test.each([
    '',
    'localhost',
    '10.0.0',
    '10.0.0.256',
    '01.0.0.1',
    ':::',
    'fe80::1%eth0',
    '10.0.0.1/8',
  ])('is not %j', (text) => {
    expect(() => parseIpAddress(text)).toThrow(refusal)
  })
})

describe('a subject', () => {
  test('is empty unless something is set', () => {
    expect(Buffer.from(emptySubject).toString('hex')).toBe('3000')
  })

  test('keeps the order that is given', () => {
    const subject = subjectName({ country: 'US', organization: 'SPIRE' })
    expect(Buffer.from(subject).toString('latin1')).toMatch(/US.*SPIRE/s)
  })

  test.each([
    ['a country in words', { country: 'Germany' }],
    ['a country in small letters', { country: 'us' }],
    ['nothing', { commonName: '' }],
    ['65 letters', { organization: 'a'.repeat(65) }],
    ['a line end', { commonName: 'a\nb' }],
    ['a NUL', { commonName: 'a\0' }],
    ['half a character', { commonName: '\ud800' }],
  ])('may not hold %s', (_, parts) => {
    expect(() => subjectName(parts)).toThrow(refusal)
  })
})

describe('the template of a token', () => {
  test('has its times in seconds and its audience as a list (JWT-17, OPEN-8)', () => {
    expect(token()).toMatchObject({
      issuedAt: noon / 1000,
      expiresAt: noon / 1000 + 300,
      audience: ['orders'],
    })
  })

  test('ends with its key', () => {
    expect(token({ keyExpiresAt: noon + 60_000 }).expiresAt).toBe(noon / 1000 + 60)
  })

  test.each([
    ['no audience (JWT-12)', { audience: [] }],
    ['an empty audience', { audience: ['a', ''] }],
    ['an audience of 2049 bytes', { audience: ['a'.repeat(2049)] }],
    ['an audience of 2049 bytes in fewer letters', { audience: ['ä'.repeat(1025)] }],
    ['an audience that is half a character', { audience: ['\udc00'] }],
    ['33 audiences', { audience: Array.from({ length: 33 }, String) }],
    [
      'the ID of the trust domain itself (OPEN-9)',
      { subject: parseSpiffeId('spiffe://prod.example') },
    ],
    [
      'an ID of another trust domain (ID-42)',
      { subject: parseSpiffeId('spiffe://other.example/api') },
    ],
    ['a lifetime of nothing', { ttlSeconds: 0 }],
    ['an empty token id', { tokenId: '' }],
  ])('is refused for %s', (_, request) => {
    expect(() => token(request)).toThrow(refusal)
  })

  test('takes any audience that is text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 200 }), (audience) => {
        expect(token({ audience: [audience] }).audience).toEqual([audience])
      }),
    )
  })
})

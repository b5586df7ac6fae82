import { X509Certificate as NodeCertificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { X509Certificate as PeculiarCertificate } from '@peculiar/x509'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  bitString,
  bytesOf,
  children,
  contextTag,
  integer,
  octetString,
  oid,
  readElement,
  sequence,
  sequenceItems,
  time,
  tlv,
} from '../../spiffe/asn1/index.js'
import { certificatesFromPem, parseCertificate, splitCertificates } from '../../spiffe/index.js'
import { testAuthority } from '../support/authority.js'
import { extension, name } from '../support/certificate.js'
import { codeOf } from './code-of.js'
import { CODE_SIGNING, ID, issuer, keys, leaf, NOW, root, type Spec } from './x509-world.js'

const samples: readonly (readonly [string, () => Uint8Array])[] = [
  ['a root', () => root()],
  ['an intermediate with a path length', () => issuer({ pathLength: 3 })],
  ['a leaf', () => leaf()],
  [
    'a leaf with many names',
    () =>
      leaf({
        names: { uris: [ID], dns: ['a.example', 'b.example'], ips: [Uint8Array.of(10, 1, 2, 3)] },
      }),
  ],
  ['a leaf with a subject', () => leaf({ subject: name('pay') })],
  ['a leaf that lives beyond 2050', () => leaf({ notAfter: Date.UTC(2060, 0, 1) })],
  ['a leaf with an RSA key', () => leaf({ keys: keys('leaf', 'rsa-2048') })],
  ['a leaf with an Ed25519 key', () => leaf({ keys: keys('leaf', 'ed25519') })],
  [
    'a leaf of the test authority',
    () => testAuthority('prod.example').issueX509({ id: '/api' }).chain[0].der,
  ],
]

describe.each(samples)('%s', (_, make) => {
  const der = make()
  const ours = parseCertificate(der)

  test('reads the same in node:crypto', () => {
    const theirs = new NodeCertificate(der)
    expect(ours.serialNumber).toBe(theirs.serialNumber.toLowerCase().replace(/^0+/, ''))
    expect(ours.notBefore).toBe(Date.parse(theirs.validFrom))
    expect(ours.notAfter).toBe(Date.parse(theirs.validTo))
    expect(ours.basicConstraints?.ca ?? false).toBe(theirs.ca)
    expect(ours.publicKey.equals(theirs.publicKey)).toBe(true)
    expect(ours.fingerprint).toBe(theirs.fingerprint256.replaceAll(':', '').toLowerCase())
    expect(theirs.subjectAltName).toContain(`URI:${ours.uriNames[0]}`)
  })

  test('reads the same in @peculiar/x509', () => {
    const theirs = new PeculiarCertificate(der)
    expect(ours.serialNumber).toBe(theirs.serialNumber.replace(/^0+/, ''))
    expect(ours.notAfter).toBe(theirs.notAfter.getTime())
    expect(Buffer.from(ours.signature)).toEqual(Buffer.from(theirs.signature))
    expect(Buffer.from(ours.publicKeyInfo)).toEqual(Buffer.from(theirs.publicKey.rawData))
    const critical = theirs.extensions.filter((each) => each.critical).map(({ type }) => type)
    expect(ours.criticalExtensions).toEqual(critical)
  })
})

test('keeps a copy of the bytes that it has read', () => {
  const der = new Uint8Array(leaf())
  const certificate = parseCertificate(der)
  const { fingerprint } = parseCertificate(der)
  der.fill(0)
  expect(certificate.fingerprint).toBe(fingerprint)
})

test('reads the certificates of the example in the standards notes', () => {
  const pem = readFileSync(new URL('../vectors/spiffe/harbour/leaf.pem', import.meta.url), 'utf8')
  const [der] = certificatesFromPem(pem)
  const certificate = parseCertificate(der!)
  expect(certificate.uriNames).toEqual(['spiffe://harbour.example/ns/quay/app/crane'])
  expect(certificate.subjectAltNameCritical).toBe(true)
  expect(new Date(certificate.notAfter).toISOString()).toBe('2036-09-28T08:36:34.000Z')
})

/** A certificate with its signed part rewritten; the signature no longer fits, which a parser does not judge. */
function rewritten(change: (fields: Uint8Array[]) => Uint8Array[]): Uint8Array {
  const [tbs, algorithm, signature] = sequenceItems(readElement(leaf())).map(bytesOf)
  const fields = sequenceItems(readElement(tbs!)).map(bytesOf)
  return sequence(sequence(...change(fields)), algorithm!, signature!)
}

const replaced = (index: number, value: Uint8Array) =>
  rewritten((fields) => fields.map((field, at) => (at === index ? value : field)))

const withExtension = (...extensions: readonly { id: string; value: Uint8Array }[]) =>
  leaf({ extra: extensions } satisfies Spec)

const [VERSION, SERIAL, ALGORITHM, ISSUER, VALIDITY, , KEY, EXTENSIONS] = [0, 1, 2, 3, 4, 5, 6, 7]
const when = NOW.getTime()

test.each([
  ['no version', rewritten((fields) => fields.slice(1))],
  ['version 1 written out', replaced(VERSION, tlv(contextTag(0), integer(0)))],
  ['version 2', replaced(VERSION, tlv(contextTag(0), integer(1)))],
  ['version 4', replaced(VERSION, tlv(contextTag(0), integer(3)))],
  ['a negative serial number', replaced(SERIAL, tlv(2, Uint8Array.of(0xff)))],
  ['a serial number of 21 octets', replaced(SERIAL, integer(new Uint8Array(21).fill(1)))],
  ['two signature algorithms', replaced(ALGORITHM, sequence(oid('1.2.840.10045.4.3.3')))],
  ['an issuer that is no name', replaced(ISSUER, sequence(integer(1)))],
  ['a name with an empty part', replaced(ISSUER, sequence(tlv(0x31)))],
  [
    'a name with a part that has no value',
    replaced(ISSUER, sequence(tlv(0x31, sequence(oid('2.5.4.3'))))),
  ],
  ['one time only', replaced(VALIDITY, sequence(time(when)))],
  ['three times', replaced(VALIDITY, sequence(time(when), time(when), time(when)))],
  ['no extensions under their tag', replaced(EXTENSIONS, tlv(contextTag(3)))],
  [
    'parts in a wrong order',
    rewritten((fields) => [...fields, tlv(contextTag(1, 'primitive'), Uint8Array.of(0, 1))]),
  ],
  ['a part of an unknown kind', rewritten((fields) => [...fields, tlv(contextTag(4), integer(1))])],
  ['extensions twice', rewritten((fields) => [...fields, fields[7]!])],
  [
    'a key usage of another type',
    withExtension({ id: '2.5.29.99', value: integer(1) }, { id: '2.5.29.99', value: integer(1) }),
  ],
  [
    'an extension without a value',
    leaf({ keyUsage: 'none', extra: [{ id: '2.5.29.15', value: new Uint8Array() }] }),
  ],
  [
    'a key usage with bytes after it',
    leaf({
      keyUsage: 'none',
      extra: [{ id: '2.5.29.15', value: Uint8Array.of(3, 2, 7, 0x80, 0) }],
    }),
  ],
  [
    'a key usage in BER',
    leaf({
      keyUsage: 'none',
      extra: [{ id: '2.5.29.15', value: Uint8Array.of(3, 2, 0, 0x80, 5) }],
    }),
  ],
  ['an empty extended key usage', leaf({ purposes: [] })],
  [
    'a name of no known kind',
    leaf({
      names: 'none',
      extra: [{ id: '2.5.29.17', value: sequence(tlv(0x89, Uint8Array.of(1))) }],
    }),
  ],
  [
    'an authority key identifier that is no sequence',
    leaf({ keyIds: 'none', extra: [{ id: '2.5.29.35', value: octetString(Uint8Array.of(1)) }] }),
  ],
  ['a fourth part', sequence(...children(readElement(leaf())).map(bytesOf), integer(1))],
  ['two parts only', sequence(...children(readElement(leaf())).map(bytesOf).slice(0, 2))],
  [
    'a signature that is not whole octets',
    sequence(
      ...children(readElement(leaf())).map(bytesOf).slice(0, 2),
      bitString(Uint8Array.of(0x80), 7),
    ),
  ],
  ['PEM', Buffer.from('-----BEGIN CERTIFICATE-----')],
  ['nothing', new Uint8Array()],
  ['more bytes than a certificate has', Buffer.alloc(40_000)],
])('refuses a certificate with %s', (_, der) => {
  expect(codeOf(() => parseCertificate(der))).toBe('CS_CERTIFICATE_MALFORMED')
})

test('reads a certificate with a key that it cannot use, and says so when it is asked for', () => {
  const certificate = parseCertificate(
    replaced(KEY, sequence(sequence(oid('1.2.3.4')), bitString(Uint8Array.of(4)))),
  )
  expect(codeOf(() => certificate.publicKey)).toBe('CS_CERTIFICATE_MALFORMED')
})

test('refuses a point that is not on its curve', () => {
  const { publicKeyInfo } = parseCertificate(leaf())
  const bent = new Uint8Array(publicKeyInfo)
  bent[bent.length - 1] = (bent.at(-1) ?? 0) ^ 1
  expect(codeOf(() => parseCertificate(replaced(KEY, bent)).publicKey)).toBe(
    'CS_CERTIFICATE_MALFORMED',
  )
})

test('tells critical extensions that it does not understand', () => {
  const certificate = parseCertificate(
    leaf({ extra: [extension.unknown(true)], purposes: [CODE_SIGNING] }),
  )
  expect(certificate.unknownCritical).toEqual(['1.3.6.1.4.1.65980.99'])
  expect(certificate.extendedKeyUsage).toEqual([CODE_SIGNING])
})

test('takes no damaged certificate for anything but damaged or another one', () => {
  const good = leaf()
  const damaged = fc
    .array(fc.tuple(fc.nat({ max: good.length - 1 }), fc.nat({ max: 255 })), {
      minLength: 1,
      maxLength: 3,
    })
    .map((changes) => {
      const bytes = new Uint8Array(good)
      for (const [at, byte] of changes) bytes[at] = byte
      return bytes
    })
  fc.assert(
    fc.property(fc.oneof(damaged, fc.uint8Array({ maxLength: 400 })), (bytes) => {
      expect(['accepted', 'CS_CERTIFICATE_MALFORMED']).toContain(
        codeOf(() => parseCertificate(bytes)),
      )
    }),
    { numRuns: 3000 },
  )
})

test('cuts certificates that stand one after the other', () => {
  const list = [leaf(), issuer(), root()]
  expect(splitCertificates(Buffer.concat(list)).map((der) => Buffer.from(der))).toEqual(
    list.map((der) => Buffer.from(der)),
  )
  expect(splitCertificates(new Uint8Array())).toEqual([])
})

test.each([
  ['a byte at the end', Buffer.concat([leaf(), Buffer.of(0)])],
  ['half a certificate at the end', Buffer.concat([leaf(), leaf().subarray(0, 100)])],
  ['PEM', Buffer.from('-----BEGIN CERTIFICATE-----\n')],
  ['something that is no sequence', integer(5)],
])('does not cut %s', (_, bytes) => {
  expect(codeOf(() => splitCertificates(bytes))).toBe('CS_CERTIFICATE_MALFORMED')
})

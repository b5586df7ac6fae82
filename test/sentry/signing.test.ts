import { execFileSync } from 'node:child_process'
import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import fc from 'fast-check'
import 'reflect-metadata'
import * as x509 from '@peculiar/x509'
import { beforeAll, describe, expect, test } from 'vitest'
import { fillsFrame, frameOf } from '../../sentry/checks/certificate-frame.js'
import { assertSaysWhatWasAsked } from '../../sentry/checks/issued-check.js'
import { type ProvenKey, proveKeyPossession } from '../../sentry/csr.js'
import { cutTemplate } from '../../sentry/signing/certificate-template.js'
import type { X509Signer } from '../../sentry/signing/signer.js'
import { emptySubject, subjectName } from '../../sentry/subject-name.js'
import { type SvidTemplate, serialText } from '../../sentry/svid-template.js'
import { parseSpiffeId, type SpiffeId, toPem } from '../../spiffe/index.js'
import { type SentryCa, sentryCa } from '../support/authorities.js'
import { ecKeys, makeCsr } from '../support/csr.js'
import { tempFolder } from '../support/temp-folder.js'
import { missing, openssl } from '../support/tools.js'

let ca: SentryCa
let signer: X509Signer
let keys: readonly ProvenKey[]

beforeAll(async () => {
  ca = await sentryCa()
  signer = ca.authorities.x509Signer()
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const ed25519 = generateKeyPairSync('ed25519')
  keys = [
    makeCsr({ keys: ecKeys() }),
    makeCsr({ keys: ecKeys('P-384') }),
    makeCsr({ keys: ecKeys('P-521') }),
    makeCsr({ keys: rsa, algorithm: 'RSA-SHA256' }),
    makeCsr({ keys: ed25519, algorithm: 'Ed25519' }),
  ].map(proveKeyPossession)
})

const SECOND = 1000
/** 1970 to 9999, in whole seconds, with the turn from UTCTime to GeneralizedTime in reach. */
const moments = fc.oneof(
  fc.integer({ min: 0, max: 253_402_300_799 }),
  fc.integer({ min: 2_524_607_990, max: 2_524_608_010 }),
)
const serials = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 16 }).filter(([first]) => first !== 0),
  fc.constantFrom(
    Uint8Array.of(1),
    Uint8Array.of(0x7f),
    Uint8Array.of(0x80),
    new Uint8Array(16).fill(255),
  ),
)
const labels = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/)
const dnsNames = fc.uniqueArray(
  fc.array(labels, { minLength: 2, maxLength: 4 }).map((parts) => `${parts.join('.')}.example`),
  { maxLength: 12 },
)
const ids = fc
  .oneof(
    fc.array(fc.stringMatching(/^[A-Za-z0-9_-]{1,40}$/), { minLength: 1, maxLength: 5 }),
    fc.integer({ min: 1, max: 2026 }).map((length) => ['a'.repeat(length)]),
  )
  .map((segments): SpiffeId => parseSpiffeId(`spiffe://prod.example/${segments.join('/')}`))
const addresses = fc.array(
  fc.oneof(
    fc.uint8Array({ minLength: 4, maxLength: 4 }),
    fc.uint8Array({ minLength: 16, maxLength: 16 }),
  ),
  { maxLength: 3 },
)
const subjects = fc.constantFrom(
  emptySubject,
  subjectName({ country: 'US', organization: 'SPIRE', commonName: 'orders.example' }),
  subjectName({ organizationalUnit: 'Zürich', organization: 'Käse & Söhne' }),
)

const templates = fc
  .record({
    id: ids,
    keyIndex: fc.nat({ max: 4 }),
    serialNumber: serials,
    times: fc.tuple(moments, moments),
    dnsNames,
    ipAddresses: addresses,
    subject: subjects,
  })
  .map(
    ({ keyIndex, times, ...rest }): SvidTemplate => ({
      ...rest,
      key: keys[keyIndex]!,
      notBefore: Math.min(...times) * SECOND,
      notAfter: Math.max(...times) * SECOND,
    }),
  )

const addressText = (bytes: Uint8Array) =>
  bytes.length === 4
    ? [...bytes].join('.')
    : Buffer.from(bytes).toString('hex').toUpperCase().match(/.{4}/g)!.join(':')
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const sign = (template: SvidTemplate) => signer.sign(template)[0]

describe('what is spliced', () => {
  test('says what its template says, to our own parser and profile', () => {
    fc.assert(
      fc.property(templates, (template) => {
        assertSaysWhatWasAsked(signer.sign(template), { template, signer })
      }),
    )
  })

  test('reads equal in @peculiar/x509', () => {
    fc.assert(
      fc.property(templates, (template) => {
        const read = new x509.X509Certificate(new Uint8Array(sign(template)))
        const names = read.getExtension(x509.SubjectAlternativeNameExtension)!
        const found = names.names.toJSON().map(({ type, value }) => [type, value])
        expect(read.serialNumber.replace(/^0+/, '')).toBe(serialText(template.serialNumber))
        expect(read.notBefore.getTime()).toBe(template.notBefore)
        expect(read.notAfter.getTime()).toBe(template.notAfter)
        expect(hex(new Uint8Array(read.publicKey.rawData))).toBe(hex(template.key.publicKeyInfo))
        expect(hex(new Uint8Array(read.subjectName.toArrayBuffer()))).toBe(hex(template.subject))
        expect(hex(new Uint8Array(read.issuerName.toArrayBuffer()))).toBe(
          hex(signer.issuer.subject),
        )
        expect(names.critical).toBe(true)
        expect(found[0]).toEqual(['url', template.id])
        expect(found.filter(([type]) => type === 'dns').map(([, value]) => value)).toEqual(
          template.dnsNames,
        )
        expect(found).toHaveLength(1 + template.dnsNames.length + template.ipAddresses.length)
        expect(read.getExtension(x509.SubjectKeyIdentifierExtension)!.keyId).toBe(
          hex(template.key.keyId),
        )
        expect(read.getExtension(x509.AuthorityKeyIdentifierExtension)!.keyId).toBe(
          signer.issuer.subjectKeyId,
        )
        const constraints = read.getExtension(x509.BasicConstraintsExtension)!
        expect([constraints.ca, constraints.critical]).toEqual([false, true])
        const rsaBits = template.key.kind === 'rsa' ? x509.KeyUsageFlags.keyEncipherment : 0
        expect(read.getExtension(x509.KeyUsagesExtension)!.usages).toBe(
          x509.KeyUsageFlags.digitalSignature | rsaBits,
        )
        expect(read.getExtension(x509.ExtendedKeyUsageExtension)!.usages).toEqual([
          x509.ExtendedKeyUsage.serverAuth,
          x509.ExtendedKeyUsage.clientAuth,
        ])
        expect(read.extensions).toHaveLength(6)
      }),
    )
  })

  test('reads equal in node:crypto, which also verifies it', () => {
    const issuer = new X509Certificate(signer.issuer.der)
    fc.assert(
      fc.property(templates, (template) => {
        const read = new X509Certificate(sign(template))
        expect(read.serialNumber.toLowerCase().replace(/^0+/, '')).toBe(
          serialText(template.serialNumber),
        )
        expect(Date.parse(read.validFrom)).toBe(template.notBefore)
        expect(Date.parse(read.validTo)).toBe(template.notAfter)
        const names = [
          `URI:${template.id}`,
          ...template.dnsNames.map((name) => `DNS:${name}`),
          ...template.ipAddresses.map((address) => `IP Address:${addressText(address)}`),
        ]
        expect(read.subjectAltName!.split(', ').map(longAddress)).toEqual(names)
        expect(read.ca).toBe(false)
        expect(read.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'])
        expect(hex(read.publicKey.export({ type: 'spki', format: 'der' }))).toBe(
          hex(template.key.publicKeyInfo),
        )
        expect(read.checkIssued(issuer)).toBe(true)
        expect(read.verify(issuer.publicKey)).toBe(true)
      }),
      { numRuns: 60 },
    )
  })

  test.skipIf(missing('certificates in OpenSSL', openssl))(
    'reads equal in OpenSSL, and verifies strictly',
    async () => {
      await using dir = await tempFolder()
      const samples = fc.sample(templates, { numRuns: 36, seed: 20_261_120 })
      const now = ca.clock.now().getTime()
      const valid = samples.map((template) => ({
        ...template,
        notBefore: now - 10 * SECOND,
        notAfter: now + 3600 * SECOND,
      }))
      await writeFile(
        dir.file('root.pem'),
        toPem('CERTIFICATE', ca.authorities.bundleKeys().x509[0]!),
      )
      await writeFile(dir.file('issuer.pem'), toPem('CERTIFICATE', signer.issuer.der))
      const write = async (template: SvidTemplate, index: number, kind: string) => {
        const path = dir.file(`${kind}-${index}.pem`)
        await writeFile(path, toPem('CERTIFICATE', sign(template)))
        return path
      }
      const paths = await Promise.all(
        valid.map((template, index) => write(template, index, 'valid')),
      )
      const verdicts = run(
        'verify',
        '-x509_strict',
        '-attime',
        String(now / SECOND),
        '-CAfile',
        dir.file('root.pem'),
        '-untrusted',
        dir.file('issuer.pem'),
        ...paths,
      )
      expect(verdicts.trim().split('\n')).toEqual(paths.map((path) => `${path}: OK`))

      for (const [index, template] of samples.entries()) {
        const path = await write(template, index, 'any')
        const text = run(
          'x509',
          '-in',
          path,
          '-noout',
          '-serial',
          '-startdate',
          '-enddate',
          '-dateopt',
          'iso_8601',
        )
        const times = [template.notBefore, template.notAfter].map(opensslTime)
        expect(text.toLowerCase()).toBe(
          `serial=${even(serialText(template.serialNumber))}\nnotbefore=${times[0]}\nnotafter=${times[1]}\n`,
        )
        const structure = run('asn1parse', '-in', path)
        expect(structure).not.toContain('Error')
        expect(structure.match(/UTCTIME/g)?.length ?? 0).toBe(
          [template.notBefore, template.notAfter].filter((time) => time < Date.UTC(2050)).length,
        )
      }
    },
    60_000,
  )

  test('is valid to the end of 2049 as UTCTime and from 2050 on as GeneralizedTime', () => {
    const lastOfUtc = Date.UTC(2049, 11, 31, 23, 59, 59)
    const der = Buffer.from(
      sign({ ...fc.sample(templates, 1)[0]!, notBefore: lastOfUtc, notAfter: lastOfUtc + SECOND }),
    )
    expect(der.includes(Buffer.from('\x17\x0d491231235959Z', 'latin1'))).toBe(true)
    expect(der.includes(Buffer.from('\x18\x0f20500101000000Z', 'latin1'))).toBe(true)
  })
})

describe('a template', () => {
  test('is not cut out of a certificate whose last extensions are others', () => {
    expect(() => cutTemplate(signer.issuer.der)).not.toThrow()
    const root = Buffer.from(signer.issuer.der)
    const keyId = Buffer.from('0603551d0e', 'hex')
    root.writeUInt8(0x12, root.indexOf(keyId) + keyId.length - 1)
    expect(() => cutTemplate(root)).toThrow(
      expect.objectContaining({ code: 'CS_ISSUE_CHECK_FAILED' }),
    )
  })
})

describe('the quick look at a certificate', () => {
  test('passes what the full check passes', () => {
    fc.assert(
      fc.property(templates, templates, (first, second) => {
        const template = {
          ...second,
          key: first.key,
          notBefore: first.notBefore,
          notAfter: first.notAfter,
        }
        const frame = frameOf(sign(first), first)
        expect(fillsFrame(sign(template), { frame, template })).toBe(true)
      }),
    )
  })

  test('passes nothing that differs from its template', () => {
    const different: readonly ((template: SvidTemplate) => SvidTemplate)[] = [
      (template) => ({ ...template, id: parseSpiffeId(`${template.id}x`.slice(-2048)) }),
      (template) => ({ ...template, serialNumber: Uint8Array.of(...template.serialNumber, 1) }),
      (template) => ({
        ...template,
        serialNumber: template.serialNumber.map((octet) => octet ^ 1),
      }),
      (template) => ({ ...template, notBefore: template.notBefore + SECOND }),
      (template) => ({ ...template, notAfter: template.notAfter + SECOND }),
      (template) => ({ ...template, dnsNames: [...template.dnsNames, 'more.example'] }),
      (template) => ({
        ...template,
        ipAddresses: [...template.ipAddresses, Uint8Array.of(1, 2, 3, 4)],
      }),
      (template) => ({ ...template, subject: subjectName({ commonName: 'other' }) }),
      (template) => ({ ...template, key: keys.find((key) => key !== template.key)! }),
    ]
    const short = ids.filter((id) => id.length < 2000)
    fc.assert(
      fc.property(templates, short, fc.constantFrom(...different), (any, id, change) => {
        const template = { ...any, id }
        const der = sign(template)
        const frame = frameOf(der, template)
        expect(fillsFrame(der, { frame, template: change(template) })).toBe(false)
      }),
    )
  })

  test('passes no certificate in which any bit outside of the signature is another', () => {
    const template = fc.sample(templates, { numRuns: 1, seed: 1 })[0]!
    const der = sign({ ...template, key: keys[0]! })
    const frame = frameOf(der, template)
    const accepted: number[] = []
    for (let bit = 0; bit < der.length * 8; bit += 1) {
      const bad = Buffer.from(der)
      bad[bit >> 3]! ^= 1 << (bit & 7)
      if (fillsFrame(bad, { frame, template: { ...template, key: keys[0]! } }))
        accepted.push(bit >> 3)
    }
    // The DER of two numbers of 32 bytes and a sign octet each.
    expect(Math.min(...accepted)).toBeGreaterThanOrEqual(der.length - 72)
  })

  test('passes nothing that is cut short or goes on', () => {
    const template = fc.sample(templates, { numRuns: 1, seed: 2 })[0]!
    const der = sign(template)
    const frame = frameOf(der, template)
    expect(fillsFrame(der, { frame, template })).toBe(true)
    expect(fillsFrame(Buffer.concat([der, Buffer.of(0)]), { frame, template })).toBe(false)
    for (let length = 0; length < der.length; length += 1) {
      expect(fillsFrame(der.subarray(0, length), { frame, template })).toBe(false)
    }
  })
})

function run(...arguments_: string[]): string {
  return execFileSync('openssl', arguments_, { encoding: 'utf8', maxBuffer: 16 * 2 ** 20 })
}

function opensslTime(milliseconds: number): string {
  return new Date(milliseconds).toISOString().replace('T', ' ').replace('.000Z', 'z')
}

function even(digits: string): string {
  return digits.length % 2 === 0 ? digits : `0${digits}`
}

/** node:crypto prints groups of an IPv6 address without leading zeros. */
function longAddress(name: string): string {
  const [kind, ...groups] = name.split(':')
  if (kind !== 'IP Address' || groups.length !== 8) return name
  return `IP Address:${groups.map((group) => group.padStart(4, '0')).join(':')}`
}

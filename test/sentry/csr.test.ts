import { execFileSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import fc from 'fast-check'
import 'reflect-metadata'
import * as x509 from '@peculiar/x509'
import { beforeAll, describe, expect, test } from 'vitest'
import { makeProvenKey, proveKeyPossession } from '../../sentry/csr.js'
import { readAllowedKey } from '../../sentry/public-key.js'
import {
  bitString,
  bytesOf,
  integer,
  nullValue,
  octetString,
  oid,
  readElement,
  sequence,
  sequenceItems,
  setOf,
  utf8String,
} from '../../spiffe/asn1/index.js'
import { type CsrRecipe, ecKeys, makeCsr, publicKeyInfoOf, type TestKeys } from '../support/csr.js'
import { tempFolder } from '../support/temp-folder.js'
import { missing, openssl } from '../support/tools.js'

const p256 = ecKeys()
let rsa: TestKeys
beforeAll(() => {
  rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
})

const codeOf = (run: () => unknown): string => {
  try {
    run()
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
  return 'accepted'
}

const csrCodes = ['CS_CSR_MALFORMED', 'CS_CSR_KEY_NOT_ALLOWED', 'CS_CSR_KEY_NOT_PROVEN']

describe('a request proves its key', () => {
  test.each([
    ['P-256', 'ec-p256', 'ECDSA-SHA256', () => p256],
    ['P-256 with SHA-512', 'ec-p256', 'ECDSA-SHA512', () => p256],
    ['P-384', 'ec-p384', 'ECDSA-SHA384', () => ecKeys('P-384')],
    ['P-521', 'ec-p521', 'ECDSA-SHA512', () => ecKeys('P-521')],
    ['Ed25519', 'ed25519', 'Ed25519', () => generateKeyPairSync('ed25519')],
    ['RSA with SHA-256', 'rsa', 'RSA-SHA256', () => rsa],
    ['RSA with SHA-384', 'rsa', 'RSA-SHA384', () => rsa],
    ['RSA with SHA-512', 'rsa', 'RSA-SHA512', () => rsa],
  ] as const)('when it is signed with %s', (_, kind, algorithm, makeKeys) => {
    const keys = makeKeys()
    const proven = proveKeyPossession(makeCsr({ keys, algorithm }))
    expect(proven.kind).toBe(kind)
    expect(Buffer.from(proven.publicKeyInfo)).toEqual(Buffer.from(publicKeyInfoOf(keys)))
    expect(proven.keyId).toHaveLength(20)
  })

  test('and gives nothing but the key, whatever names and usages it asks for (X509-28, ID-41)', async () => {
    const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, [
      'sign',
      'verify',
    ])
    const request = await x509.Pkcs10CertificateRequestGenerator.create({
      name: 'CN=admin, O=Elsewhere',
      keys,
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
      extensions: [
        new x509.BasicConstraintsExtension(true, 2, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: 'spiffe://other/admin' }]),
      ],
    })
    const proven = proveKeyPossession(new Uint8Array(request.rawData))
    expect(Object.keys(proven).toSorted()).toEqual(['keyId', 'kind', 'publicKeyInfo'])
  })

  test('with a copy of the key, so that the buffer of the request may be used again', () => {
    const csr = makeCsr({ keys: p256 })
    const proven = proveKeyPossession(csr)
    csr.fill(0)
    expect(Buffer.from(proven.publicKeyInfo)).toEqual(Buffer.from(publicKeyInfoOf(p256)))
  })

  test('with or without attributes', () => {
    expect(proveKeyPossession(makeCsr({ keys: p256, attributes: null })).kind).toBe('ec-p256')
  })

  test.skipIf(missing('requests by OpenSSL', openssl)).each([
    ['ec-p256', ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256']],
    ['ec-p384', ['ec', '-pkeyopt', 'ec_paramgen_curve:P-384']],
    ['rsa', ['rsa:2048']],
    ['ed25519', ['ed25519']],
  ])('when OpenSSL made it with %s', async (kind, newKey) => {
    await using dir = await tempFolder()
    const out = dir.file('csr.der')
    const request = ['req', '-new', '-nodes', '-newkey', ...newKey, '-outform', 'DER', '-out', out]
    const names = ['-subj', '/C=US/O=SPIRE', '-addext', 'subjectAltName=URI:spiffe://a/b']
    execFileSync('openssl', [...request, ...names, '-keyout', dir.file('key.pem')], {
      stdio: 'ignore',
    })
    expect(proveKeyPossession(await readFile(out)).kind).toBe(kind)
  })

  test('and so does a key that the sentry made itself', () => {
    const { key, privateKey } = makeProvenKey()
    expect(key.kind).toBe('ec-p256')
    expect(privateKey.asymmetricKeyDetails?.namedCurve).toBe('prime256v1')
  })
})

describe('a request is refused', () => {
  const name = (text: string) => sequence(setOf(sequence(oid('2.5.4.3'), utf8String(text))))
  const csr = (recipe: Partial<CsrRecipe> = {}) => makeCsr({ keys: p256, ...recipe })

  test.each([
    ['nothing', () => new Uint8Array()],
    ['PEM', () => Buffer.from('-----BEGIN CERTIFICATE REQUEST-----\n')],
    ['base64', () => Buffer.from(Buffer.from(csr()).toString('base64'))],
    ['a byte behind the end', () => Buffer.concat([csr(), Buffer.of(0)])],
    ['a request twice', () => Buffer.concat([csr(), csr()])],
    ['version 2', () => csr({ version: Uint8Array.of(2, 1, 1) })],
    ['no version', () => csr({ version: new Uint8Array() })],
    ['a fifth part', () => csr({ more: nullValue() })],
    ['a subject that is no sequence', () => csr({ subject: octetString() })],
    ['more than 16 kB', () => csr({ subject: name('a'.repeat(17_000)) })],
    [
      'four outer parts',
      () => sequence(sequence(), sequence(), bitString(Uint8Array.of(1)), nullValue()),
    ],
    [
      'an RSA key with a negative modulus',
      () => csr({ publicKeyInfo: rsaInfo({ rawModulus: Uint8Array.of(2, 1, 0x80) }) }),
    ],
  ])('for %s: CS_CSR_MALFORMED', (_, make) => {
    expect(codeOf(() => proveKeyPossession(make()))).toBe('CS_CSR_MALFORMED')
  })

  test.each([
    ['P-224', () => csr({ keys: ecKeys('P-224') })],
    ['secp256k1', () => csr({ keys: ecKeys('secp256k1') })],
    ['a compressed point', () => csr({ publicKeyInfo: compressed() })],
    ['a point off its curve', () => csr({ publicKeyInfo: offCurve() })],
    ['X25519', () => csr({ publicKeyInfo: publicKeyInfoOf(generateKeyPairSync('x25519')) })],
    ['Ed448', () => csr({ publicKeyInfo: publicKeyInfoOf(generateKeyPairSync('ed448')) })],
    [
      'RSA for PSS alone',
      () =>
        csr({
          publicKeyInfo: publicKeyInfoOf(generateKeyPairSync('rsa-pss', { modulusLength: 2048 })),
        }),
    ],
    ['RSA of 1024 bits', () => csr({ publicKeyInfo: rsaInfo({ bits: 1024 }) })],
    ['RSA of 2047 bits', () => csr({ publicKeyInfo: rsaInfo({ bits: 2047 }) })],
    ['RSA of 4097 bits', () => csr({ publicKeyInfo: rsaInfo({ bits: 4097 }) })],
    ['RSA with an even modulus', () => csr({ publicKeyInfo: rsaInfo({ even: true }) })],
    ['RSA with exponent 3', () => csr({ publicKeyInfo: rsaInfo({ exponent: 3n }) })],
    ['RSA with exponent 65535', () => csr({ publicKeyInfo: rsaInfo({ exponent: 65_535n }) })],
    ['RSA with exponent 65538', () => csr({ publicKeyInfo: rsaInfo({ exponent: 65_538n }) })],
    [
      'RSA with an exponent of 65 bits',
      () => csr({ publicKeyInfo: rsaInfo({ exponent: 2n ** 64n + 1n }) }),
    ],
  ])('for %s: CS_CSR_KEY_NOT_ALLOWED', (_, make) => {
    expect(codeOf(() => proveKeyPossession(make()))).toBe('CS_CSR_KEY_NOT_ALLOWED')
  })

  test.each([
    ['the key of somebody else', () => csr({ publicKeyInfo: publicKeyInfoOf(ecKeys()) })],
    ['SHA-1', () => csr({ algorithm: 'ECDSA-SHA1' })],
    ['SHA-1 by RSA', () => makeCsr({ keys: rsa, algorithm: 'RSA-SHA1' })],
    ['an algorithm of another kind of key', () => csr({ algorithm: 'RSA-SHA256' })],
    [
      'the wrong digest',
      () => replaced(csr(), { from: '2a8648ce3d040302', to: '2a8648ce3d040303' }),
    ],
    ['a signature cut off', () => withoutSignature(csr())],
  ])('for %s: CS_CSR_KEY_NOT_PROVEN', (_, make) => {
    expect(codeOf(() => proveKeyPossession(make()))).toBe('CS_CSR_KEY_NOT_PROVEN')
  })

  test('when any bit of it is another', () => {
    const good = csr({ subject: name('a') })
    for (let bit = 0; bit < good.length * 8; bit += 1) {
      const bad = new Uint8Array(good)
      bad[bit >> 3]! ^= 1 << (bit & 7)
      expect(csrCodes).toContain(codeOf(() => proveKeyPossession(bad)))
    }
  })

  test('when it is cut short anywhere', () => {
    const good = csr()
    for (let length = 0; length < good.length; length += 1) {
      expect(codeOf(() => proveKeyPossession(good.subarray(0, length)))).toBe('CS_CSR_MALFORMED')
    }
  })

  test('when it is noise, with a code each time', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (noise, framed) => {
        const code = codeOf(() => proveKeyPossession(framed ? sequence(noise) : noise))
        expect(csrCodes).toContain(code)
      }),
    )
  })
})

describe('the key policy', () => {
  test.each([
    ['RSA of 2048 bits', { bits: 2048 }],
    ['RSA of 4096 bits', { bits: 4096 }],
    ['RSA with exponent 65537', { exponent: 65_537n }],
    ['RSA with an exponent of 64 bits', { exponent: 2n ** 64n - 1n }],
  ])('allows %s', (_, numbers) => {
    expect(readAllowedKey(rsaInfo(numbers)).kind).toBe('rsa')
  })
})

/** A key that nobody holds, made of numbers. */
function rsaInfo(numbers: {
  readonly bits?: number
  readonly exponent?: bigint
  readonly even?: boolean
  readonly rawModulus?: Uint8Array
}): Uint8Array {
  const { bits = 2048, exponent = 65_537n, even = false } = numbers
  const modulus = 2n ** BigInt(bits - 1) + (even ? 0n : 1n)
  const key = sequence(numbers.rawModulus ?? integer(modulus), integer(exponent))
  return sequence(sequence(oid('1.2.840.113549.1.1.1'), nullValue()), bitString(key))
}

function compressed(): Uint8Array {
  const info = publicKeyInfoOf(p256)
  const x = info.subarray(27, 59)
  const algorithm = sequence(oid('1.2.840.10045.2.1'), oid('1.2.840.10045.3.1.7'))
  return sequence(algorithm, bitString(Buffer.concat([Buffer.of(2), x])))
}

function offCurve(): Uint8Array {
  const info = publicKeyInfoOf(p256)
  info[info.length - 1]! ^= 1
  return info
}

function replaced(bytes: Uint8Array, { from, to }: { readonly from: string; readonly to: string }) {
  return Buffer.from(Buffer.from(bytes).toString('hex').replace(from, to), 'hex')
}

function withoutSignature(csr: Uint8Array): Uint8Array {
  const [info, algorithm] = sequenceItems(readElement(csr))
  return sequence(bytesOf(info!), bytesOf(algorithm!), bitString(new Uint8Array()))
}

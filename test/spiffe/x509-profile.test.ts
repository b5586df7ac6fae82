import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import {
  assertIssuedLeafProfile,
  assertLeafProfile,
  parseCertificate,
  parseX509Svid,
} from '../../spiffe/index.js'
import { testAuthority } from '../support/authority.js'
import { extension, name, pkcs8Of } from '../support/certificate.js'
import { codeOf, refusalOf } from './code-of.js'
import { CLIENT_AUTH, ID, issuer, keys, leaf, SERVER_AUTH, type Spec } from './x509-world.js'

const issuedOnly: readonly (readonly [string, string, Spec])[] = [
  ['X509-18', 'no basic constraints', { ca: 'none' }],
  [
    'X509-23',
    'a key usage that is not critical',
    { keyUsage: 'none', extra: [{ ...extension.keyUsage(1), critical: false }] },
  ],
  ['X509-31', 'an extended key usage without clientAuth', { purposes: [SERVER_AUTH] }],
  ['X509-31', 'an extended key usage without serverAuth', { purposes: [CLIENT_AUTH] }],
  ['X509-8', 'an empty subject and an uncritical alternative name', { namesCritical: false }],
]

describe('what an issuer must keep and a verifier forgives', () => {
  test.each(issuedOnly)('%s %s', (_, __, spec) => {
    const certificate = parseCertificate(leaf(spec))
    expect(assertLeafProfile(certificate)).toBe(ID)
    expect(codeOf(() => assertIssuedLeafProfile(certificate))).toBe('CS_X509_SVID_INVALID')
  })

  test.each([
    ['X509-29', 'no extended key usage', { purposes: undefined as never }],
    [
      'X509-8',
      'a subject and an uncritical alternative name',
      { subject: name('pay'), namesCritical: false },
    ],
    ['X509-27', 'keyEncipherment', { keyUsage: 5 }],
  ] satisfies [string, string, Spec][])('%s is no reason to refuse: %s', (_, __, spec) => {
    expect(assertIssuedLeafProfile(parseCertificate(leaf(spec)))).toBe(ID)
  })
})

test('X509-1 says how many URI names there are', () => {
  const two = parseCertificate(leaf({ names: { uris: [ID, ID, 'https://a.example'] } }))
  expect(refusalOf(() => assertLeafProfile(two))?.message).toBe(
    'certificate has 3 URI names, not one',
  )
})

const key = () => pkcs8Of(keys('leaf').privateKey)

/** With another octet in its place: the private part of a P-256 key has its length at 35 and is 32 octets long. */
function changed(pkcs8: Uint8Array, { at, to }: { at: number; to: number }): Uint8Array {
  pkcs8[at] = pkcs8[at] === to ? to + 1 : to
  return pkcs8
}

test.each(['P-256', 'P-384', 'P-521', 'rsa-2048', 'ed25519'] as const)(
  'knows the key that belongs to a leaf: %s',
  (kind) => {
    const { privateKey } = keys('leaf', kind)
    const chain = [leaf({ keys: keys('leaf', kind) }), issuer()]
    expect(codeOf(() => parseX509Svid({ chain, privateKeyDer: pkcs8Of(privateKey) }))).toBe(
      'accepted',
    )
  },
)

test('puts an SVID together', () => {
  const svid = parseX509Svid({ chain: [leaf(), issuer()], privateKeyDer: key(), hint: 'internal' })
  expect([svid.id, svid.hint, svid.chain.length]).toEqual([ID, 'internal', 2])
  expect(svid.privateKey.type).toBe('private')
})

test.each([
  ['no certificate', () => ({ chain: [] }), 'CS_X509_SVID_INVALID'],
  [
    'a leaf that breaks the profile',
    () => ({ chain: [leaf({ ca: true }), issuer()] }),
    'CS_X509_SVID_INVALID',
  ],
  ['a second leaf after the first', () => ({ chain: [leaf(), leaf()] }), 'CS_X509_SVID_INVALID'],
  [
    'an intermediate that may not sign',
    () => ({ chain: [leaf(), issuer({ keyUsage: 1 })] }),
    'CS_X509_SVID_INVALID',
  ],
  [
    'bytes that are no certificate',
    () => ({ chain: [leaf(), Buffer.of(1)] }),
    'CS_CERTIFICATE_MALFORMED',
  ],
  [
    'the key of another',
    () => ({ privateKeyDer: pkcs8Of(keys('other').privateKey) }),
    'CS_X509_SVID_INVALID',
  ],
  [
    'a key of another kind',
    () => ({ privateKeyDer: pkcs8Of(generateKeyPairSync('ed25519').privateKey) }),
    'CS_X509_SVID_INVALID',
  ],
  [
    'WL-26 TRAP-14 a key in SEC1',
    () => ({ privateKeyDer: keys('leaf').privateKey.export({ type: 'sec1', format: 'der' }) }),
    'CS_X509_SVID_INVALID',
  ],
  [
    'an encrypted key',
    () => ({
      privateKeyDer: keys('leaf').privateKey.export({
        type: 'pkcs8',
        format: 'der',
        cipher: 'aes-256-cbc',
        passphrase: 'x',
      }),
    }),
    'CS_X509_SVID_INVALID',
  ],
  ['no key', () => ({ privateKeyDer: new Uint8Array() }), 'CS_X509_SVID_INVALID'],
  [
    'the key of another beside which the right public key stands',
    () => ({ privateKeyDer: changed(key(), { at: 50, to: 0 }) }),
    'CS_X509_SVID_INVALID',
  ],
  [
    'a key of more octets than its curve has',
    () => ({ privateKeyDer: changed(key(), { at: 35, to: 102 }) }),
    'CS_X509_SVID_INVALID',
  ],
])('makes no SVID of %s', (_, parts, code) => {
  expect(
    codeOf(() => parseX509Svid({ chain: [leaf(), issuer()], privateKeyDer: key(), ...parts() })),
  ).toBe(code)
})

test('SP-1 ID-36 tells nothing about a private key that it refuses', () => {
  const secret = pkcs8Of(keys('other').privateKey)
  const refusal = refusalOf(() =>
    parseX509Svid({ chain: [leaf()], privateKeyDer: secret.subarray(1) }),
  )
  expect(refusal?.cause).toBeUndefined()
  expect(refusal?.message).toBe('private key is not unencrypted PKCS#8')
})

test('ID-23 an ID of 2048 bytes goes through a certificate whole', () => {
  const start = 'spiffe://prod.example/'
  const id = start + 'a'.repeat(2048 - start.length)
  expect(testAuthority('prod.example').issueX509({ id }).id).toBe(id)
})

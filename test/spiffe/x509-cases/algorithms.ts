import { createPublicKey } from 'node:crypto'
import { type signatures } from '../../support/certificate.js'
import { issuer, keys, leaf, type TestKeys } from '../x509-world.js'
import { ACCEPTED, INVALID, leafCase, type X509Case } from './case.js'

type SignatureName = keyof typeof signatures

const signedWith = (
  signature: SignatureName,
  kind: Parameters<typeof keys>[1],
  verdict: string,
): X509Case => ({
  name: `a leaf signed with ${signature} by a key of ${kind ?? 'P-256'}`,
  proves: 'X509-33',
  chain: () => [
    leaf({ signedBy: keys('issuer', kind), signature }),
    issuer({ keys: keys('issuer', kind) }),
  ],
  expect: verdict,
})

/** A public key that is odd in its exponent; nobody signs with it here. */
function withExponent(e: string): TestKeys {
  const { privateKey, publicKey } = keys('leaf', 'rsa-2048')
  const { n } = publicKey.export({ format: 'jwk' })
  const jwk = { kty: 'RSA', n: n ?? '', e }
  return { privateKey, publicKey: createPublicKey({ key: jwk, format: 'jwk' }) }
}

export const algorithmsCases: readonly X509Case[] = [
  signedWith('ECDSA-SHA256', 'P-256', ACCEPTED),
  signedWith('ECDSA-SHA384', 'P-256', ACCEPTED),
  signedWith('ECDSA-SHA384', 'P-384', ACCEPTED),
  signedWith('ECDSA-SHA512', 'P-521', ACCEPTED),
  signedWith('RSA-SHA256', 'rsa-2048', ACCEPTED),
  signedWith('RSA-SHA512', 'rsa-2048', ACCEPTED),
  signedWith('RSAPSS-SHA256', 'rsa-2048', ACCEPTED),
  signedWith('RSAPSS-SHA512', 'rsa-2048', ACCEPTED),
  signedWith('Ed25519', 'ed25519', ACCEPTED),
  signedWith('ECDSA-SHA1', 'P-256', INVALID),
  signedWith('RSA-SHA1', 'rsa-2048', INVALID),
  signedWith('RSA-MD5', 'rsa-2048', INVALID),
  signedWith('RSAPSS-SHA1', 'rsa-2048', INVALID),
  signedWith('RSA-SHA256', 'rsa-1024', INVALID),
  signedWith('ECDSA-SHA256', 'secp256k1', INVALID),
  leafCase(
    'a leaf with an RSA key of 2048 bits',
    'X509-27',
    () => ({ keys: keys('leaf', 'rsa-2048'), keyUsage: 5 }),
    ACCEPTED,
  ),
  leafCase(
    'a leaf with an RSA key of 1024 bits',
    'X509-33',
    () => ({ keys: keys('leaf', 'rsa-1024') }),
    INVALID,
  ),
  ...[
    ['of one, under which every text is a signature', 'AQ', INVALID],
    ['of three', 'Aw', ACCEPTED],
    ['that is even', 'AQAA', INVALID],
    ['of 32 bits', '_____w', ACCEPTED],
    ['of 33 bits, which costs whoever verifies', 'Af____8', INVALID],
  ].map(([title, exponent, verdict]) =>
    leafCase(
      `a leaf with an RSA exponent ${title}`,
      'X509-33',
      () => ({ keys: withExponent(exponent as string), keyUsage: 5 }),
      verdict as string,
    ),
  ),
  leafCase(
    'a leaf with a key on an unusual curve',
    'X509-33',
    () => ({ keys: keys('leaf', 'secp256k1') }),
    INVALID,
  ),
]

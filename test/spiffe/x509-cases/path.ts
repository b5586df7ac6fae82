import { extension, name } from '../../support/certificate.js'
import { CRL_SIGN, issuer, issuerName, keys, leaf } from '../x509-world.js'
import {
  ACCEPTED,
  EXPIRED,
  INVALID,
  issuerCase,
  leafCase,
  now,
  rootCase,
  usual,
  type X509Case,
} from './case.js'

/** Paths that RFC 5280 does not accept, and some next to them that it does. */
export const pathCases: readonly X509Case[] = [
  leafCase('an expired leaf', 'X509-33', () => ({ notAfter: now - 1000 }), EXPIRED),
  leafCase('a leaf from the future', 'X509-33', () => ({ notBefore: now + 1000 }), EXPIRED),
  leafCase(
    'a leaf that ends before it begins',
    'X509-33',
    () => ({ notBefore: now + 1000, notAfter: now - 1000 }),
    EXPIRED,
  ),
  issuerCase('an expired intermediate', 'X509-33', () => ({ notAfter: now - 1000 }), EXPIRED),
  issuerCase(
    'an intermediate from the future',
    'X509-33',
    () => ({ notBefore: now + 1000 }),
    EXPIRED,
  ),
  rootCase('an expired root', 'X509-33', () => ({ notAfter: now - 1000 }), EXPIRED),
  {
    name: 'an intermediate that is missing',
    proves: 'X509-33',
    chain: () => [leaf()],
    expect: INVALID,
  },
  leafCase(
    'a leaf signed by a key with the right name',
    'X509-33',
    () => ({ signedBy: keys('impostor') }),
    INVALID,
  ),
  issuerCase(
    'an intermediate signed by a key with the right name',
    'X509-33',
    () => ({ signedBy: keys('impostor') }),
    INVALID,
  ),
  leafCase(
    'a leaf that names another issuer',
    'X509-33',
    () => ({ issuer: name('td.example Issuer') }),
    INVALID,
  ),
  issuerCase('an intermediate with cA false', 'X509-17 X509-33', () => ({ ca: false }), INVALID),
  issuerCase(
    'an intermediate without basic constraints',
    'X509-17 X509-33',
    () => ({ ca: 'none' }),
    INVALID,
  ),
  issuerCase(
    'an intermediate without keyCertSign',
    'X509-24',
    () => ({ keyUsage: CRL_SIGN }),
    INVALID,
  ),
  rootCase('a root with cA false', 'X509-17', () => ({ ca: false }), INVALID),
  rootCase('a root without keyCertSign', 'X509-24', () => ({ keyUsage: CRL_SIGN }), INVALID),
  rootCase(
    'a root with a path length of zero above an intermediate',
    'X509-16 X509-33',
    () => ({ pathLength: 0 }),
    INVALID,
  ),
  {
    name: 'an intermediate with a path length of zero above another',
    proves: 'X509-16 X509-33',
    chain: () => [
      leaf({ signedBy: keys('second'), issuer: name('second') }),
      issuer({
        keys: keys('second'),
        subject: name('second'),
        signedBy: keys('issuer'),
        issuer: issuerName,
      }),
      issuer({ pathLength: 0 }),
    ],
    expect: INVALID,
  },
  {
    name: 'a self-issued intermediate, which a path length does not count',
    proves: 'X509-16',
    chain: () => [
      leaf({ signedBy: keys('renewed') }),
      issuer({ keys: keys('renewed'), signedBy: keys('issuer'), issuer: issuerName }),
      issuer({ pathLength: 0 }),
    ],
    expect: ACCEPTED,
  },
  leafCase(
    'a leaf with an unknown critical extension',
    'X509-33',
    () => ({ extra: [extension.unknown(true)] }),
    INVALID,
  ),
  issuerCase(
    'an intermediate with an unknown critical extension',
    'X509-33',
    () => ({ extra: [extension.unknown(true)] }),
    INVALID,
  ),
  rootCase(
    'a root with an unknown critical extension',
    'X509-33',
    () => ({ extra: [extension.unknown(true)] }),
    INVALID,
  ),
  leafCase(
    'an extension that occurs twice',
    'X509-33',
    () => ({ extra: [extension.keyUsage(1)] }),
    INVALID,
  ),
  leafCase(
    'basic constraints that occur twice, the second as a leaf',
    'X509-33',
    () => ({ extra: [extension.basicConstraints(false)] }),
    INVALID,
  ),
  issuerCase(
    'a path length on what is no CA',
    'X509-33',
    () => ({ ca: false, pathLength: 0 }),
    INVALID,
  ),
  issuerCase('a CA without a name', 'X509-33', () => ({ subject: name() }), INVALID),
  {
    name: 'a leaf that signs another',
    proves: 'X509-33',
    chain: () => [
      leaf({ signedBy: keys('leaf'), issuer: name('front') }),
      leaf({ subject: name('front') }),
      issuer(),
    ],
    expect: INVALID,
  },
  {
    name: 'two intermediates that have signed each other',
    proves: 'X509-33',
    chain: () => [
      leaf({ signedBy: keys('ring a'), issuer: name('ring a') }),
      issuer({
        keys: keys('ring a'),
        subject: name('ring a'),
        signedBy: keys('ring b'),
        issuer: name('ring b'),
      }),
      issuer({
        keys: keys('ring b'),
        subject: name('ring b'),
        signedBy: keys('ring a'),
        issuer: name('ring a'),
      }),
    ],
    expect: INVALID,
  },
  {
    name: 'a chain longer than any path',
    proves: 'X509-33',
    chain: () => longChain(8),
    expect: INVALID,
  },
  {
    name: 'a chain as long as a path may be',
    proves: 'X509-33',
    chain: () => longChain(6),
    expect: ACCEPTED,
  },
  {
    name: 'more certificates than are looked at',
    proves: 'X509-33',
    chain: () => [...usual(), ...Array.from({ length: 9 }, () => issuer())],
    expect: INVALID,
  },
  {
    name: 'bytes that are no certificate',
    proves: 'SP-4 ID-39 X509-33',
    chain: () => [Buffer.from('spiffe')],
    expect: INVALID,
  },
  {
    name: 'bytes after the leaf',
    proves: 'X509-33',
    chain: () => [Buffer.concat([leaf(), Buffer.of(0)]), issuer()],
    expect: INVALID,
  },
  {
    name: 'garbage after a good leaf and its intermediate',
    proves: 'X509-33',
    chain: () => [...usual(), Buffer.of(0x30, 0)],
    expect: INVALID,
  },
]

/** A leaf and `count` intermediates between it and the root. */
function longChain(count: number): Uint8Array[] {
  const step = (index: number) => ({ keys: keys(`step ${index}`), subject: name(`step ${index}`) })
  const chain = Array.from({ length: count }, (_, index) =>
    index === count - 1
      ? issuer(step(index))
      : issuer({ ...step(index), signedBy: step(index + 1).keys, issuer: step(index + 1).subject }),
  )
  return [leaf({ signedBy: step(0).keys, issuer: step(0).subject }), ...chain]
}

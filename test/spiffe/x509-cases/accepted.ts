import { extension, name } from '../../support/certificate.js'
import {
  ANY_PURPOSE,
  CERT_SIGN,
  CLIENT_AUTH,
  DIGITAL_SIGNATURE,
  ID,
  issuer,
  issuerName,
  keys,
  leaf,
  root,
  rootName,
  SERVER_AUTH,
} from '../x509-world.js'
import { ACCEPTED, issuerCase, leafCase, now, rootCase, td, usual, type X509Case } from './case.js'

/** What a verifier has to put up with. */
export const goodCases: readonly X509Case[] = [
  leafCase('a leaf under an intermediate', 'X509-15 X509-33', () => ({}), ACCEPTED),
  {
    name: 'a leaf directly under the root',
    proves: 'X509-34',
    chain: () => [leaf({ signedBy: keys('root'), issuer: rootName })],
    expect: ACCEPTED,
  },
  {
    name: 'a leaf under two intermediates',
    proves: 'X509-13 X509-15',
    chain: () => [
      leaf({ signedBy: keys('second'), issuer: name('second') }),
      issuer({
        keys: keys('second'),
        subject: name('second'),
        signedBy: keys('issuer'),
        issuer: issuerName,
      }),
      issuer(),
    ],
    expect: ACCEPTED,
  },
  {
    name: 'intermediates in another order, with strangers between them',
    proves: 'X509-15',
    chain: () => [
      leaf({ signedBy: keys('second'), issuer: name('second') }),
      issuer({
        keys: keys('stranger'),
        signedBy: keys('stranger'),
        subject: name('stranger'),
        issuer: name('stranger'),
      }),
      issuer(),
      issuer({
        keys: keys('second'),
        subject: name('second'),
        signedBy: keys('issuer'),
        issuer: issuerName,
      }),
    ],
    expect: ACCEPTED,
  },
  {
    name: 'a chain that brings the root along',
    proves: 'X509-15',
    chain: () => [...usual(), root()],
    expect: ACCEPTED,
  },
  leafCase(
    'a leaf with a subject',
    'X509-7 X509-8',
    () => ({ subject: name('pay'), namesCritical: false }),
    ACCEPTED,
  ),
  leafCase(
    'a leaf with names of other kinds',
    'X509-4',
    () => ({
      names: {
        uris: [ID],
        dns: ['a.example', 'b.example', '*.c.example'],
        ips: [Uint8Array.of(10, 0, 0, 1), new Uint8Array(16)],
        emails: ['pay@td.example'],
      },
    }),
    ACCEPTED,
  ),
  leafCase(
    'a leaf without an extended key usage',
    'X509-29',
    () => ({ purposes: undefined as never }),
    ACCEPTED,
  ),
  leafCase(
    'a leaf with a critical extended key usage',
    'X509-30',
    () => ({
      purposes: undefined as never,
      extra: [{ ...extension.extendedKeyUsage(SERVER_AUTH, CLIENT_AUTH), critical: true }],
    }),
    ACCEPTED,
  ),
  leafCase('a leaf for any purpose', 'X509-29', () => ({ purposes: [ANY_PURPOSE] }), ACCEPTED),
  leafCase(
    'a leaf with keyEncipherment and keyAgreement too',
    'X509-27',
    () => ({ keyUsage: 1 | 4 | 16 }),
    ACCEPTED,
  ),
  leafCase('a leaf without basic constraints', 'X509-18 OPEN-20', () => ({ ca: 'none' }), ACCEPTED),
  leafCase(
    'a leaf with an extension nobody knows',
    'X509-33',
    () => ({ extra: [extension.unknown(false)] }),
    ACCEPTED,
  ),
  leafCase('a leaf without key identifiers', 'X509-33', () => ({ keyIds: 'none' }), ACCEPTED),
  leafCase(
    'a leaf whose key identifiers mislead',
    'X509-33',
    () => ({ keyIds: 'wrong' }),
    ACCEPTED,
  ),
  leafCase('a leaf that expires this very second', 'X509-33', () => ({ notAfter: now }), ACCEPTED),
  leafCase('a leaf that begins this very second', 'X509-33', () => ({ notBefore: now }), ACCEPTED),
  issuerCase(
    'an intermediate without a SPIFFE ID',
    'X509-10 OPEN-3',
    () => ({ names: 'none' }),
    ACCEPTED,
  ),
  issuerCase(
    'an intermediate with the ID of another trust domain',
    'X509-13',
    () => ({ names: { uris: ['spiffe://other.example'] } }),
    ACCEPTED,
  ),
  issuerCase(
    'an intermediate with a lone trailing slash in its ID',
    'OPEN-19',
    () => ({ names: { uris: ['spiffe://td.example/'] } }),
    ACCEPTED,
  ),
  issuerCase(
    'an intermediate with digitalSignature',
    'X509-52 OPEN-4',
    () => ({ keyUsage: DIGITAL_SIGNATURE | CERT_SIGN }),
    ACCEPTED,
  ),
  issuerCase(
    'an intermediate without cRLSign',
    'X509-25',
    () => ({ keyUsage: CERT_SIGN }),
    ACCEPTED,
  ),
  issuerCase(
    'an intermediate with both purposes',
    'X509-32',
    () => ({ purposes: [SERVER_AUTH, CLIENT_AUTH] }),
    ACCEPTED,
  ),
  issuerCase(
    'an intermediate with a path length of zero above a leaf',
    'X509-16',
    () => ({ pathLength: 0 }),
    ACCEPTED,
  ),
  rootCase(
    'a root with a path length of one above one intermediate',
    'X509-16',
    () => ({ pathLength: 1 }),
    ACCEPTED,
  ),
  rootCase('a root without a SPIFFE ID', 'OPEN-3', () => ({ names: 'none' }), ACCEPTED),
  rootCase('a root without a key usage', 'X509-33', () => ({ keyUsage: 'none' }), ACCEPTED),
  {
    name: 'a certificate in the bundle that is not self-signed',
    proves: 'X509-46',
    chain: () => [leaf()],
    bundles: () => td(issuer()),
    expect: ACCEPTED,
  },
]

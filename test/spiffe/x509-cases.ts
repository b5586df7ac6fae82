import { sequence, tlv } from '../../spiffe/asn1/index.js'
import type { PeerUsage, TrustBundle } from '../../spiffe/index.js'
import { dnsSubtree, extension, name, type signatures, uriSubtree } from '../support/certificate.js'
import {
  ANY_PURPOSE,
  bundle,
  CERT_SIGN,
  CLIENT_AUTH,
  CODE_SIGNING,
  CRL_SIGN,
  DIGITAL_SIGNATURE,
  HOUR,
  ID,
  issuer,
  issuerName,
  keys,
  leaf,
  MINUTE,
  NOW,
  root,
  rootName,
  SERVER_AUTH,
  type Spec,
} from './x509-world.js'

/** A presented chain, what the verifier holds, and the verdict. */
export interface X509Case {
  readonly name: string
  readonly proves: string
  readonly chain: () => readonly Uint8Array[]
  readonly bundles?: () => readonly TrustBundle[]
  readonly usage?: PeerUsage
  readonly expect: string
}

const ACCEPTED = 'accepted'
const INVALID = 'CS_PEER_CHAIN_INVALID'
const PROFILE = 'CS_X509_SVID_INVALID'
const NOT_SPIFFE = 'CS_PEER_NOT_SPIFFE'
const NO_BUNDLE = 'CS_BUNDLE_NOT_FOUND'
const EXPIRED = 'CS_SVID_EXPIRED'

const td = (...roots: readonly Uint8Array[]) => [bundle('td.example', roots)]
const usual = (spec: Spec = {}) => [leaf(spec), issuer()]
const now = NOW.getTime()

/** A leaf that is odd in one way, under a good chain. */
const leafCase = (title: string, proves: string, spec: () => Spec, verdict: string): X509Case => ({
  name: title,
  proves,
  chain: () => usual(spec()),
  expect: verdict,
})

/** An intermediate that is odd in one way. */
const issuerCase = (
  title: string,
  proves: string,
  spec: () => Spec,
  verdict: string,
): X509Case => ({
  name: title,
  proves,
  chain: () => [leaf(), issuer(spec())],
  expect: verdict,
})

/** A root that is odd in one way. */
const rootCase = (title: string, proves: string, spec: () => Spec, verdict: string): X509Case => ({
  name: title,
  proves,
  chain: () => usual(),
  bundles: () => td(root(spec())),
  expect: verdict,
})

const good: readonly X509Case[] = [
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

const names: readonly X509Case[] = [
  { name: 'no certificate at all', proves: 'X509-34', chain: () => [], expect: NOT_SPIFFE },
  leafCase(
    'no alternative name',
    'X509-3',
    () => ({ names: 'none', subject: name(ID) }),
    NOT_SPIFFE,
  ),
  leafCase('the ID as a DNS name', 'X509-3', () => ({ names: { dns: [ID] } }), NOT_SPIFFE),
  leafCase(
    'two SPIFFE IDs',
    'X509-2',
    () => ({ names: { uris: [ID, 'spiffe://td.example/b'] } }),
    NOT_SPIFFE,
  ),
  leafCase('the same SPIFFE ID twice', 'X509-2', () => ({ names: { uris: [ID, ID] } }), NOT_SPIFFE),
  leafCase(
    'a SPIFFE ID and a web address',
    'X509-2',
    () => ({ names: { uris: [ID, 'https://td.example/a'] } }),
    NOT_SPIFFE,
  ),
  leafCase(
    'a web address only',
    'X509-38',
    () => ({ names: { uris: ['https://td.example/a'] } }),
    NOT_SPIFFE,
  ),
  leafCase(
    'the scheme in capitals',
    'X509-38 OPEN-1',
    () => ({ names: { uris: ['SPIFFE://td.example/a'] } }),
    NOT_SPIFFE,
  ),
  leafCase(
    'a trailing slash',
    'X509-39 OPEN-19',
    () => ({ names: { uris: ['spiffe://td.example/'] } }),
    NOT_SPIFFE,
  ),
  leafCase(
    'the ID of a trust domain',
    'X509-39',
    () => ({ names: { uris: ['spiffe://td.example'] } }),
    PROFILE,
  ),
  leafCase(
    'a NUL in the ID',
    'PX-13',
    () => ({ names: { uris: ['spiffe://td.example/a\0.evil'] } }),
    INVALID,
  ),
  leafCase(
    'a line end in a DNS name',
    'PX-13',
    () => ({ names: { uris: [ID], dns: ['a\nb'] } }),
    INVALID,
  ),
  leafCase(
    'a letter beyond ASCII in a DNS name',
    'PX-13',
    () => ({ names: { uris: [ID], dns: ['é.example'] } }),
    INVALID,
  ),
  leafCase(
    'an IP name of five bytes',
    'X509-33',
    () => ({ names: { uris: [ID], ips: [new Uint8Array(5)] } }),
    INVALID,
  ),
  leafCase('an empty list of names', 'X509-33', () => ({ names: {} }), INVALID),
]

const profile: readonly X509Case[] = [
  leafCase('a CA as a peer', 'X509-5 X509-35', () => ({ ca: true, keyUsage: CERT_SIGN }), PROFILE),
  leafCase('a leaf with cA true', 'X509-35', () => ({ ca: true }), PROFILE),
  leafCase(
    'a leaf with keyCertSign',
    'X509-36',
    () => ({ keyUsage: DIGITAL_SIGNATURE | CERT_SIGN }),
    PROFILE,
  ),
  leafCase(
    'a leaf with cRLSign',
    'X509-37',
    () => ({ keyUsage: DIGITAL_SIGNATURE | CRL_SIGN }),
    PROFILE,
  ),
  leafCase('a leaf without a key usage', 'X509-22 OPEN-20', () => ({ keyUsage: 'none' }), PROFILE),
  leafCase('a leaf without digitalSignature', 'X509-26', () => ({ keyUsage: 4 }), PROFILE),
  leafCase('a leaf with an empty key usage', 'X509-26', () => ({ keyUsage: 0 }), PROFILE),
  {
    name: 'the root itself as a peer',
    proves: 'X509-14',
    chain: () => [root({ names: { uris: [ID] } })],
    expect: PROFILE,
  },
  {
    name: 'an intermediate as a peer',
    proves: 'X509-14',
    chain: () => [issuer({ names: { uris: [ID] } })],
    expect: PROFILE,
  },
  leafCase('a leaf for signing code', 'PX-13', () => ({ purposes: [CODE_SIGNING] }), INVALID),
  {
    ...leafCase(
      'a server with a certificate for clients',
      'PX-13',
      () => ({ purposes: [CLIENT_AUTH] }),
      INVALID,
    ),
    usage: 'server',
  },
  {
    ...leafCase(
      'a client with a certificate for servers',
      'PX-13',
      () => ({ purposes: [SERVER_AUTH] }),
      INVALID,
    ),
    usage: 'client',
  },
  {
    ...leafCase(
      'a client with a certificate for clients',
      'PX-13',
      () => ({ purposes: [CLIENT_AUTH] }),
      ACCEPTED,
    ),
    usage: 'client',
  },
  leafCase(
    'a certificate for clients where either will do',
    'PX-13',
    () => ({ purposes: [CLIENT_AUTH] }),
    ACCEPTED,
  ),
  {
    ...issuerCase(
      'an intermediate for servers above a client',
      'X509-32',
      () => ({ purposes: [SERVER_AUTH] }),
      INVALID,
    ),
    usage: 'client',
  },
]

const path: readonly X509Case[] = [
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
    proves: 'X509-33',
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

const otherRoot = () =>
  root({
    keys: keys('other root'),
    subject: name('other root'),
    names: { uris: ['spiffe://other.example'] },
  })
const underOther = (spec: Spec = {}) =>
  leaf({ signedBy: keys('other root'), issuer: name('other root'), ...spec })
const both = () => [bundle('td.example', [root()]), bundle('other.example', [otherRoot()])]

const domains: readonly X509Case[] = [
  {
    name: 'a leaf of one trust domain signed by the root of another',
    proves: 'ID-29 X509-40',
    chain: () => [underOther()],
    bundles: both,
    expect: INVALID,
  },
  {
    name: 'the same the other way round',
    proves: 'ID-29 X509-40',
    chain: () => [
      leaf({
        signedBy: keys('root'),
        issuer: rootName,
        names: { uris: ['spiffe://other.example/a'] },
      }),
    ],
    bundles: both,
    expect: INVALID,
  },
  {
    name: 'a leaf through an intermediate of another trust domain',
    proves: 'X509-40',
    chain: () => [
      leaf(),
      issuer({
        signedBy: keys('other root'),
        issuer: name('other root'),
        names: { uris: ['spiffe://other.example'] },
      }),
    ],
    bundles: both,
    expect: INVALID,
  },
  {
    name: 'a leaf whose chain brings the foreign root along',
    proves: 'ID-29 TRAP-5',
    chain: () => [underOther(), otherRoot()],
    bundles: both,
    expect: INVALID,
  },
  {
    name: 'a leaf of each trust domain under its own root',
    proves: 'ID-29',
    chain: () => [underOther({ names: { uris: ['spiffe://other.example/a'] } })],
    bundles: both,
    expect: ACCEPTED,
  },
  {
    name: 'a trust domain without a bundle',
    proves: 'X509-40',
    chain: () => usual({ names: { uris: ['spiffe://unknown.example/a'] } }),
    expect: NO_BUNDLE,
  },
  {
    name: 'a trust domain whose bundle is empty',
    proves: 'X509-34 TB-19',
    chain: () => usual(),
    bundles: () => td(),
    expect: INVALID,
  },
  {
    name: 'a self-signed leaf',
    proves: 'X509-34',
    chain: () => [leaf({ signedBy: keys('leaf'), issuer: name('self'), subject: name('self') })],
    expect: INVALID,
  },
  {
    name: 'a leaf that is itself in the bundle',
    proves: 'X509-34',
    chain: () => [leaf()],
    bundles: () => td(leaf()),
    expect: INVALID,
  },
  {
    name: 'either of two roots',
    proves: 'X509-50',
    chain: () => usual(),
    bundles: () => td(otherRoot(), root()),
    expect: ACCEPTED,
  },
]

const next = { keys: keys('next root'), subject: name('td.example next root') }
/** The next root, vouched for by the one before it. */
const crossSigned = (spec: Spec = {}) => issuer({ ...next, ...spec })
const underNext = (spec: Spec = {}) =>
  issuer({ signedBy: next.keys, issuer: next.subject, ...spec })

const crossing: readonly X509Case[] = [
  {
    name: 'a new root that the old one has signed, for a verifier with the old',
    proves: 'X509-33',
    chain: () => [leaf(), underNext(), crossSigned()],
    expect: ACCEPTED,
  },
  {
    name: 'the same for a verifier with the new',
    proves: 'X509-33',
    chain: () => [leaf(), underNext(), crossSigned()],
    bundles: () => td(root(next)),
    expect: ACCEPTED,
  },
  {
    name: 'the same for a verifier with both',
    proves: 'X509-33',
    chain: () => [leaf(), underNext(), crossSigned()],
    bundles: () => td(root(), root(next)),
    expect: ACCEPTED,
  },
  {
    name: 'an expired cross-signature beside a root that is trusted',
    proves: 'X509-33',
    chain: () => [leaf(), underNext(), crossSigned({ notAfter: now - HOUR })],
    bundles: () => td(root(next)),
    expect: ACCEPTED,
  },
  {
    name: 'an expired cross-signature and nothing else',
    proves: 'X509-33',
    chain: () => [leaf(), underNext(), crossSigned({ notAfter: now - HOUR })],
    expect: EXPIRED,
  },
  {
    name: 'two certificates for one intermediate, the expired one first',
    proves: 'X509-33',
    chain: () => [leaf(), issuer({ notAfter: now - MINUTE }), issuer()],
    expect: ACCEPTED,
  },
  {
    name: 'two intermediates of one name, the wrong key first',
    proves: 'X509-33',
    chain: () => [leaf({ keyIds: 'none' }), issuer({ keys: keys('impostor') }), issuer()],
    expect: ACCEPTED,
  },
  {
    name: 'two roots of one name, the wrong key first',
    proves: 'X509-33',
    chain: () => usual(),
    bundles: () => td(root({ keys: keys('impostor root') }), root()),
    expect: ACCEPTED,
  },
  {
    name: 'an expired root beside its renewal with the same key',
    proves: 'X509-33',
    chain: () => usual(),
    bundles: () => td(root({ notAfter: now - HOUR }), root()),
    expect: ACCEPTED,
  },
]

const permitted = (...hosts: readonly string[]) => [
  extension.nameConstraints({ permitted: hosts.map(uriSubtree) }),
]
const excluded = (...hosts: readonly string[]) => [
  extension.nameConstraints({ excluded: hosts.map(uriSubtree) }),
]
const dns = (...hosts: readonly string[]): Spec => ({ names: { uris: [ID], dns: hosts } })
const constrained = (
  title: string,
  extra: Spec['extra'],
  verdict: string,
  spec: Spec = {},
): X509Case => ({
  name: title,
  proves: 'X509-20',
  chain: () => [leaf(spec), issuer(extra ? { extra, names: 'none' } : {})],
  expect: verdict,
})

const constraints: readonly X509Case[] = [
  constrained('a CA that is limited to this trust domain', permitted('td.example'), ACCEPTED),
  constrained('a CA that is limited to it in capitals', permitted('TD.example'), ACCEPTED),
  constrained(
    'a CA that is limited to one of several',
    permitted('a.example', 'td.example'),
    ACCEPTED,
  ),
  constrained('a CA that is limited to another trust domain', permitted('other.example'), INVALID),
  constrained('a CA that is limited to a domain above it', permitted('example'), INVALID),
  constrained('a CA that is limited to everything below a domain', permitted('.example'), ACCEPTED),
  constrained(
    'a CA that is limited to everything below this one',
    permitted('.td.example'),
    INVALID,
  ),
  constrained('a CA that excludes this trust domain', excluded('td.example'), INVALID),
  constrained('a CA that excludes another trust domain', excluded('other.example'), ACCEPTED),
  constrained('a CA that excludes everything', excluded(''), INVALID),
  constrained('a limit written as a SPIFFE ID', permitted('spiffe://td.example'), INVALID),
  constrained(
    'a limit of a kind that cannot be checked',
    [extension.nameConstraints({ permitted: [tlv(0x81, Buffer.from('td.example'))] })],
    INVALID,
  ),
  constrained(
    'an empty list of limits',
    [{ id: '2.5.29.30', critical: true, value: sequence() }],
    INVALID,
  ),
  constrained(
    'DNS names inside their limit',
    [extension.nameConstraints({ permitted: [dnsSubtree('svc.example')] })],
    ACCEPTED,
    dns('svc.example', 'a.b.svc.example', '*.svc.example'),
  ),
  constrained(
    'a DNS name outside its limit',
    [extension.nameConstraints({ permitted: [dnsSubtree('svc.example')] })],
    INVALID,
    dns('mysvc.example'),
  ),
  constrained(
    'a DNS name that is excluded',
    [extension.nameConstraints({ excluded: [dnsSubtree('secret.example')] })],
    INVALID,
    dns('a.secret.example'),
  ),
  constrained(
    'a wildcard that reaches an excluded name',
    [extension.nameConstraints({ excluded: [dnsSubtree('secret.example')] })],
    INVALID,
    dns('*.example'),
  ),
  constrained(
    'no DNS name under a limit on DNS names',
    [extension.nameConstraints({ permitted: [dnsSubtree('svc.example')] })],
    ACCEPTED,
  ),
  {
    name: 'a limit in the root',
    proves: 'X509-20',
    chain: () => usual(),
    bundles: () => td(root({ extra: permitted('other.example') })),
    expect: INVALID,
  },
  {
    name: 'a trust domain that is an address, under a limit',
    proves: 'X509-20 ID-13',
    chain: () => [
      leaf({ names: { uris: ['spiffe://10.0.0.1/a'] } }),
      issuer({ extra: permitted(''), names: 'none' }),
    ],
    bundles: () => [bundle('10.0.0.1', [root()])],
    expect: INVALID,
  },
  {
    name: 'an intermediate whose own ID breaks the limit',
    proves: 'X509-20',
    chain: () => [leaf(), issuer({ names: { uris: ['spiffe://other.example'] } })],
    bundles: () => td(root({ extra: permitted('td.example') })),
    expect: INVALID,
  },
]

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

const algorithms: readonly X509Case[] = [
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
  leafCase(
    'a leaf with a key on an unusual curve',
    'X509-33',
    () => ({ keys: keys('leaf', 'secp256k1') }),
    INVALID,
  ),
]

export const x509Cases: readonly X509Case[] = [
  ...good,
  ...names,
  ...profile,
  ...path,
  ...domains,
  ...crossing,
  ...constraints,
  ...algorithms,
].map((entry) => ({ bundles: () => td(root()), ...entry }))

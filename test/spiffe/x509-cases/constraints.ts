import { sequence, tlv } from '../../../spiffe/asn1/index.js'
import { dnsSubtree, extension, uriSubtree } from '../../support/certificate.js'
import { bundle, ID, issuer, leaf, root, type Spec } from '../x509-world.js'
import { ACCEPTED, INVALID, td, usual, type X509Case } from './case.js'

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

export const constraintsCases: readonly X509Case[] = [
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
  ...[
    ['an empty list of what is permitted', tlv(0xa0)],
    ['an empty list of what is excluded', tlv(0xa1)],
    ['limits under a tag that nobody knows', tlv(0xa2, sequence(uriSubtree('other.example')))],
  ].map(([title, lists]) =>
    constrained(
      title as string,
      [{ id: '2.5.29.30', critical: true, value: sequence(lists as Uint8Array) }],
      INVALID,
    ),
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

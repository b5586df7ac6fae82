import { name } from '../../support/certificate.js'
import { bundle, issuer, keys, leaf, root, rootName, type Spec } from '../x509-world.js'
import { ACCEPTED, INVALID, NO_BUNDLE, td, usual, type X509Case } from './case.js'

const otherRoot = () =>
  root({
    keys: keys('other root'),
    subject: name('other root'),
    names: { uris: ['spiffe://other.example'] },
  })
const underOther = (spec: Spec = {}) =>
  leaf({ signedBy: keys('other root'), issuer: name('other root'), ...spec })
const both = () => [bundle('td.example', [root()]), bundle('other.example', [otherRoot()])]

export const domainsCases: readonly X509Case[] = [
  {
    name: 'a leaf of one trust domain signed by the root of another',
    proves: 'ID-29 X509-40 TB-4 WL-21',
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
    proves: 'X509-40 WL-22',
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

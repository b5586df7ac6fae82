import { name } from '../../support/certificate.js'
import { HOUR, issuer, keys, leaf, MINUTE, root, type Spec } from '../x509-world.js'
import { ACCEPTED, EXPIRED, now, td, usual, type X509Case } from './case.js'

const next = { keys: keys('next root'), subject: name('td.example next root') }
/** The next root, vouched for by the one before it. */
const crossSigned = (spec: Spec = {}) => issuer({ ...next, ...spec })
const underNext = (spec: Spec = {}) =>
  issuer({ signedBy: next.keys, issuer: next.subject, ...spec })

export const crossingCases: readonly X509Case[] = [
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

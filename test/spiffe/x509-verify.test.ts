import { describe, expect, test } from 'vitest'
import { bundleSet, parseCertificate, peerVerifier, verifyX509Svid } from '../../spiffe/index.js'
import { codeOf, refusalOf } from './code-of.js'
import { x509Cases } from './x509-cases/index.js'
import {
  bundle,
  HOUR,
  ID,
  issuer,
  issuerName,
  keys,
  leaf,
  MINUTE,
  NOW,
  root,
} from './x509-world.js'

describe('a chain is judged against the bundle of its own trust domain', () => {
  test.each(x509Cases.map((entry) => [entry.proves, entry.name, entry] as const))(
    '%s: %s',
    (_, __, { chain, bundles = () => [], usage, expect: verdict }) => {
      const held = bundleSet(bundles())
      const presented = chain()
      const options = { chain: presented, bundles: held, now: NOW, usage }
      expect(codeOf(() => verifyX509Svid(options))).toBe(verdict)
      // The verifier that remembers comes to the same verdict, at first and again.
      const verifier = peerVerifier({ bundles: held })
      expect(codeOf(() => verifier.verify(presented, NOW, usage))).toBe(verdict)
      expect(codeOf(() => verifier.verify(presented, NOW, usage))).toBe(verdict)
    },
  )
})

const bundles = bundleSet([bundle('td.example', [root()])])

test('gives back the ID, the path to the root and the first moment at which it ends', () => {
  const chain = [
    leaf({ notAfter: NOW.getTime() + 3 * HOUR }),
    issuer({ notAfter: NOW.getTime() + 2 * MINUTE }),
  ]
  const peer = verifyX509Svid({ chain, bundles, now: NOW })
  expect(peer.id).toBe(ID)
  expect(peer.chain.map(({ der }) => Buffer.from(der))).toEqual(
    chain.map((der) => Buffer.from(der)),
  )
  expect(peer.path).toHaveLength(3)
  expect(peer.path.at(-1)).toBe(bundles.bundleFor('td.example' as never).x509Authorities[0])
  expect(peer.expiresAt).toBe(NOW.getTime() + 2 * MINUTE)
})

test.each([
  [{ notAfter: NOW.getTime() - 5 * MINUTE }, 'leaf expired 5 minutes ago, at 2026-11-20T11:55:00Z'],
  [
    { notAfter: NOW.getTime() - 26 * HOUR - MINUTE },
    'leaf expired 1 day 2 hours ago, at 2026-11-19T09:59:00Z',
  ],
  [{ notAfter: NOW.getTime() - 1000 }, 'leaf expired 1 second ago, at 2026-11-20T11:59:59Z'],
  [
    { notBefore: NOW.getTime() + 59 * MINUTE },
    'leaf is not valid before 2026-11-20T12:59:00Z, 59 minutes from now',
  ],
])('says how far off the time is: %o', (spec, message) => {
  expect(
    refusalOf(() => verifyX509Svid({ chain: [leaf(spec), issuer()], bundles, now: NOW }))?.message,
  ).toBe(message)
})

test('is never inside a time that is no time', () => {
  const chain = [leaf(), issuer()]
  expect(codeOf(() => verifyX509Svid({ chain, bundles, now: new Date(Number.NaN) }))).toBe(
    'CS_SVID_EXPIRED',
  )
})

test('ID-35 SP-1 notices every byte that changes in the signed part', () => {
  const good = leaf()
  const intermediate = issuer()
  for (let at = 0; at < good.length; at += 1) {
    const changed = new Uint8Array(good)
    changed[at] = (changed[at] ?? 0) ^ 1
    expect(
      codeOf(() => verifyX509Svid({ chain: [changed, intermediate], bundles, now: NOW })),
      `byte ${at}`,
    ).not.toBe('accepted')
  }
})

test('does not believe a source that answers with the bundle of another trust domain', () => {
  const wrong = { bundleFor: () => bundle('other.example', [root()]) }
  expect(
    codeOf(() => verifyX509Svid({ chain: [leaf(), issuer()], bundles: wrong, now: NOW })),
  ).toBe('CS_BUNDLE_NOT_FOUND')
})

test('checks no more signatures than its limit, however many issuers a chain offers', () => {
  const impostors = (count: number) =>
    Array.from({ length: count }, (_, index) =>
      root({ keys: keys(`impostor ${index}`), keyIds: 'none' }),
    )
  const chain = [leaf({ keyIds: 'none' }), issuer({ keyIds: 'none' })]
  const offered = (count: number) =>
    bundleSet([bundle('td.example', [...impostors(count), root({ keyIds: 'none' })])])
  expect(codeOf(() => verifyX509Svid({ chain, bundles: offered(20), now: NOW }))).toBe('accepted')
  expect(refusalOf(() => verifyX509Svid({ chain, bundles: offered(40), now: NOW }))?.code).toBe(
    'CS_PEER_CHAIN_INVALID',
  )
})

test('finds the right issuer at once among many when key identifiers tell', () => {
  const renewals = Array.from({ length: 40 }, (_, index) =>
    root({ keys: keys(`impostor ${index}`) }),
  )
  const held = bundleSet([bundle('td.example', [...renewals, root()])])
  expect(codeOf(() => verifyX509Svid({ chain: [leaf(), issuer()], bundles: held, now: NOW }))).toBe(
    'accepted',
  )
})

test('a certificate made of ballast does not take long', () => {
  const many = Array.from({ length: 1000 }, (_, index) => `h${index}.example`)
  const chain = [
    leaf({ names: { uris: [ID], dns: many } }),
    issuer({ signedBy: keys('root'), subject: issuerName }),
  ]
  expect(codeOf(() => verifyX509Svid({ chain, bundles, now: NOW }))).toBe('accepted')
  const longer = [...many, ...many].map((host) => `${host}.of.a.rather.long.name`)
  const ballast = [leaf({ names: { uris: [ID], dns: longer } }), issuer()]
  expect(codeOf(() => verifyX509Svid({ chain: ballast, bundles, now: NOW }))).toBe(
    'CS_PEER_CHAIN_INVALID',
  )
})

test('X509-33 an issuer whose key is no key has signed nothing, and does not hide the good one', () => {
  const offCurve = parseCertificate(issuer())
  const bent = new Uint8Array(offCurve.der)
  const at =
    Buffer.from(bent).indexOf(Buffer.from(offCurve.publicKeyInfo)) +
    offCurve.publicKeyInfo.length -
    1
  bent[at] = (bent[at] ?? 0) ^ 1
  const judge = (chain: readonly Uint8Array[]) =>
    codeOf(() => verifyX509Svid({ chain, bundles, now: NOW }))
  expect(judge([leaf(), bent])).toBe('CS_PEER_CHAIN_INVALID')
  expect(judge([leaf({ keyIds: 'none' }), bent, issuer()])).toBe('accepted')
})

test('X509-33 a leaf whose key cannot be read is refused', () => {
  const good = parseCertificate(leaf())
  const bent = new Uint8Array(good.der)
  const start = Buffer.from(bent).indexOf(Buffer.from(good.publicKeyInfo))
  // The identifier of the curve becomes a NULL-like value that is no longer an identifier.
  bent[start + 4] = 0x05
  expect(codeOf(() => verifyX509Svid({ chain: [bent, issuer()], bundles, now: NOW }))).toBe(
    'CS_PEER_CHAIN_INVALID',
  )
})

test.each([
  ['the intermediate', [leaf()], 'issuer of leaf'],
  [
    'the root',
    [leaf(), issuer({ issuer: issuerName, signedBy: keys('far') })],
    'certificate 1 above the leaf',
  ],
] as const)('says whose issuer is missing: %s', (_, chain, message) => {
  expect(refusalOf(() => verifyX509Svid({ chain, bundles, now: NOW }))?.message).toContain(message)
})

import { expect, test, vi } from 'vitest'
import { bundleSet, peerVerifier, type TrustBundle } from '../../spiffe/index.js'
import { recentlyUsed } from '../../spiffe/recently-used.js'
import { codeOf } from './code-of.js'
import {
  bundle,
  CLIENT_AUTH,
  HOUR,
  issuer,
  issuerName,
  keys,
  leaf,
  MINUTE,
  NOW,
  root,
} from './x509-world.js'

const later = (milliseconds: number) => new Date(NOW.getTime() + milliseconds)

/** Bundles that can be changed, as a live source changes them. */
function liveBundles(first: TrustBundle) {
  let current = first
  const source = bundleSet([])
  return {
    replace: (next: TrustBundle) => {
      current = next
    },
    bundleFor: (trustDomain: TrustBundle['trustDomain']) =>
      trustDomain === current.trustDomain ? current : source.bundleFor(trustDomain),
  }
}

const chain = [leaf(), issuer()]
const roots = () => bundle('td.example', [root()])

test('PX-19 gives back the verdict that it remembers', () => {
  const verifier = peerVerifier({ bundles: liveBundles(roots()) })
  const peer = verifier.verify(chain, NOW)
  expect(verifier.verify(chain, later(MINUTE))).toBe(peer)
  expect(verifier.verify([...chain], NOW)).toBe(peer)
})

test('TRAP-7 TB-19 forgets its verdicts when the bundle changes, and refuses under an empty one', () => {
  const bundles = liveBundles(roots())
  const verifier = peerVerifier({ bundles })
  const peer = verifier.verify(chain, NOW)

  bundles.replace({ ...bundles.bundleFor(roots().trustDomain) })
  expect(verifier.verify(chain, NOW)).not.toBe(peer)

  bundles.replace(bundle('td.example', []))
  expect(codeOf(() => verifier.verify(chain, NOW))).toBe('CS_PEER_CHAIN_INVALID')

  bundles.replace(bundle('other.example', [root()]))
  expect(codeOf(() => verifier.verify(chain, NOW))).toBe('CS_BUNDLE_NOT_FOUND')
})

test('ends a verdict with the first certificate on its path', () => {
  const verifier = peerVerifier({ bundles: liveBundles(roots()) })
  const short = [leaf(), issuer({ notAfter: NOW.getTime() + MINUTE })]
  expect(codeOf(() => verifier.verify(short, NOW))).toBe('accepted')
  expect(codeOf(() => verifier.verify(short, later(MINUTE)))).toBe('accepted')
  expect(codeOf(() => verifier.verify(short, later(MINUTE + 1)))).toBe('CS_SVID_EXPIRED')
})

test('does not let a clock that was set back reach before a certificate begins', () => {
  const verifier = peerVerifier({ bundles: liveBundles(roots()) })
  verifier.verify(chain, NOW)
  expect(codeOf(() => verifier.verify(chain, later(-HOUR)))).toBe('CS_SVID_EXPIRED')
})

test('keeps a verdict for a client apart from one for a server', () => {
  const verifier = peerVerifier({ bundles: liveBundles(roots()) })
  const clientOnly = [leaf({ purposes: [CLIENT_AUTH] }), issuer()]
  expect(codeOf(() => verifier.verify(clientOnly, NOW, 'client'))).toBe('accepted')
  expect(codeOf(() => verifier.verify(clientOnly, NOW, 'server'))).toBe('CS_PEER_CHAIN_INVALID')
})

test('keeps no verdict for the same bytes cut in another way', () => {
  const verifier = peerVerifier({ bundles: liveBundles(roots()) })
  verifier.verify(chain, NOW)
  expect(codeOf(() => verifier.verify([Buffer.concat(chain)], NOW))).toBe('CS_PEER_CHAIN_INVALID')
})

test('judges as often as it is asked when it refuses', () => {
  const bundles = liveBundles(bundle('td.example', []))
  const verifier = peerVerifier({ bundles })
  expect(codeOf(() => verifier.verify(chain, NOW))).toBe('CS_PEER_CHAIN_INVALID')
  bundles.replace(roots())
  expect(codeOf(() => verifier.verify(chain, NOW))).toBe('accepted')
})

test('remembers no more verdicts than its limit', () => {
  const verifier = peerVerifier({ bundles: liveBundles(roots()), maxCached: 2 })
  const chains = ['a', 'b', 'c'].map((path) => [
    leaf({ names: { uris: [`spiffe://td.example/${path}`] } }),
    issuer(),
  ])
  const [first, second, third] = chains.map((each) => verifier.verify(each, NOW))
  expect(verifier.verify(chains[2]!, NOW)).toBe(third)
  expect(verifier.verify(chains[1]!, NOW)).toBe(second)
  expect(verifier.verify(chains[0]!, NOW)).not.toBe(first)
})

test('does not remember a valid chain with ballast', () => {
  const verifier = peerVerifier({ bundles: liveBundles(roots()) })
  const dns = Array.from({ length: 1000 }, (_, index) => `host-${index}.example`)
  const ballast = issuer({
    keys: keys('stranger'),
    subject: issuerName,
    names: { uris: ['spiffe://td.example'], dns },
  })
  const heavy = [...chain, ballast]
  expect(verifier.verify(heavy, NOW)).not.toBe(verifier.verify(heavy, NOW))
})

test('an intermediate that it knows still has to be valid and under the bundle', () => {
  const bundles = liveBundles(roots())
  const verifier = peerVerifier({ bundles })
  const short = issuer({ notAfter: NOW.getTime() + MINUTE })
  verifier.verify([leaf(), short], NOW)
  const fresh = leaf({ names: { uris: ['spiffe://td.example/fresh'] } })
  expect(codeOf(() => verifier.verify([fresh, short], later(2 * MINUTE)))).toBe('CS_SVID_EXPIRED')
  bundles.replace(bundle('td.example', [root({ keys: keys('other root') })]))
  expect(codeOf(() => verifier.verify([fresh, short], NOW))).toBe('CS_PEER_CHAIN_INVALID')
})

test('asks for the bundle of the trust domain in the leaf and for no other', () => {
  const bundleFor = vi.fn(() => roots())
  peerVerifier({ bundles: { bundleFor } }).verify(chain, NOW)
  expect(bundleFor.mock.calls).toEqual([['td.example']])
})

test('a map of recent things forgets what was not asked for the longest', () => {
  const map = recentlyUsed<number>(2)
  map.set('a', 1)
  map.set('b', 2)
  map.get('a')
  map.set('c', 3)
  expect([map.get('a'), map.get('b'), map.get('c'), map.size]).toEqual([1, undefined, 3, 2])
  map.delete('a')
  expect(map.size).toBe(1)
})

import { expect, test } from 'vitest'
import { parseTrustDomain, type TrustBundle } from '../../spiffe/index.js'
import { type BundleChange, bundleStore } from '../../trust-bundles/store.js'

const a = parseTrustDomain('a.example')
const b = parseTrustDomain('b.example')

const bundle = (trustDomain: TrustBundle['trustDomain'], sequence: bigint): TrustBundle => ({
  trustDomain,
  x509Authorities: [],
  jwtAuthorities: new Map(),
  sequence,
})

test('each bundle is held under its own trust domain and under no other (FED-14)', () => {
  const [ofA, ofB] = [bundle(a, 1n), bundle(b, 1n)]
  const store = bundleStore([ofA])
  store.put(ofB)
  expect(store.bundleFor(a)).toBe(ofA)
  expect(store.bundleFor(b)).toBe(ofB)
})

test('a bundle that is not held is told by code, also after it was removed', () => {
  const store = bundleStore([bundle(a, 1n)])
  store.remove(a)
  for (const trustDomain of [a, b]) {
    expect(() => store.bundleFor(trustDomain)).toThrow(
      expect.objectContaining({ code: 'CS_BUNDLE_NOT_FOUND' }),
    )
  }
})

test('the revision grows with each change, and what is no change is told to nobody', () => {
  const store = bundleStore()
  const heard: BundleChange[] = []
  const stop = store.onChange((change) => heard.push(change))
  const first = bundle(a, 1n)
  const second = bundle(a, 2n)
  store.put(first)
  store.put(first)
  store.put(second)
  store.remove(b)
  store.remove(a)
  stop()
  store.put(first)
  expect(heard).toEqual([
    { trustDomain: a, bundle: first, revision: 1 },
    { trustDomain: a, bundle: second, revision: 2 },
    { trustDomain: a, bundle: undefined, revision: 3 },
  ])
  expect(store.revision).toBe(4)
})

test('what was read stays as it was read', () => {
  const store = bundleStore([bundle(a, 1n)])
  const before = store.all()
  store.put(bundle(b, 1n))
  expect([...before.keys()]).toEqual([a])
  expect([...store.all().keys()]).toEqual([a, b])
})

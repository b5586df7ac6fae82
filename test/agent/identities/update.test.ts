import { describe, expect, test } from 'vitest'
import { nothingHeld } from '../../../agent/identities/held.js'
import { applyUpdate, isVisible, noUpdate, type Update } from '../../../agent/identities/update.js'
import { readBundle } from '../../../agent/sentry/wire.js'
import { testAuthority } from '../../support/authority.js'
import { wireBundle } from '../../support/fake-sentry.js'
import { heldBundle, heldEntry, heldState, heldSvid } from '../held-values.js'

const NOW = Date.parse('2026-11-20T12:00:00Z')
const authority = testAuthority('prod.example', { now: new Date(NOW) })
const partner = testAuthority('partner.example', { now: new Date(NOW) })
const { trustDomain } = authority
const shop = heldEntry({ id: 'shop', path: '/shop', createdAt: 1 })
const orders = heldEntry({ id: 'orders', path: '/orders', createdAt: 2 })
const held = heldState(authority, [shop, orders])
const apply = (update: Partial<Update>, to = held) =>
  applyUpdate(to, { ...noUpdate, ...update }, { trustDomain, now: NOW })

describe('entries', () => {
  test('come in the order of their creation, then of their id', () => {
    const late = heldEntry({ id: 'a', path: '/late', createdAt: 3 })
    const same = heldEntry({ id: 'about', path: '/about', createdAt: 2 })
    const { entries } = apply({ entries: [late, same] })
    expect(entries.map(({ id }) => id)).toEqual(['shop', 'about', 'orders', 'a'])
  })

  test('that are withdrawn take their SVID with them at once', () => {
    const after = apply({ removedEntryIds: ['shop'] })
    expect(after.entries).toEqual([orders])
    expect([...after.svids.keys()]).toEqual(['orders'])
  })

  test('that a full state leaves out are withdrawn', () => {
    const after = apply({ full: true, entries: [orders] })
    expect(after.entries).toEqual([orders])
    expect([...after.svids.keys()]).toEqual(['orders'])
  })

  test('keep their SVID when only their revision changes', () => {
    const revised = heldEntry({ id: 'shop', path: '/shop', createdAt: 1, revision: 1 })
    const after = apply({ entries: [revised] })
    expect(after.svids.get('shop')).toBe(held.svids.get('shop'))
  })

  test('lose their SVID at once when they take another SPIFFE ID', () => {
    const renamed = heldEntry({ id: 'shop', path: '/store', createdAt: 1, revision: 1 })
    expect(apply({ entries: [renamed] }).svids.has('shop')).toBe(false)
  })
})

describe('bundles', () => {
  const withPartner = apply({ bundles: [heldBundle(partner.bundle)] })

  test('are added, and given up when told so', () => {
    expect([...withPartner.bundles.keys()]).toEqual(['prod.example', 'partner.example'])
    const after = apply({ removedTrustDomains: [partner.trustDomain] }, withPartner)
    expect([...after.bundles.keys()]).toEqual(['prod.example'])
  })

  test('of our own trust domain stay when a full state leaves them out', () => {
    const after = apply({ full: true, removedTrustDomains: [trustDomain] }, withPartner)
    expect([...after.bundles.keys()]).toEqual(['prod.example'])
    expect(after.bundles.get(trustDomain)).toBe(held.bundles.get(trustDomain))
  })

  test('that say the same are the same object, so that === tells of a change', () => {
    const again = apply({ bundles: [heldBundle(partner.bundle)] }, withPartner)
    expect(again.bundles).toBe(withPartner.bundles)
  })

  test.each<[string, (bundle: ReturnType<typeof wireBundle>) => void]>([
    ['another sequence', (bundle) => Object.assign(bundle, { sequenceNumber: 9n })],
    ['another refresh hint', (bundle) => Object.assign(bundle, { refreshHint: 9n })],
    [
      'a root more',
      (bundle) => bundle.x509Authorities.push(wireBundle(authority.bundle).x509Authorities[0]!),
    ],
    ['no root', (bundle) => bundle.x509Authorities.splice(0)],
    ['a JWT key less', (bundle) => bundle.jwtAuthorities.splice(0)],
    [
      'another JWT key under the same id',
      (bundle) =>
        Object.assign(bundle.jwtAuthorities[0]!, {
          publicKey: wireBundle(authority.bundle).jwtAuthorities[0]!.publicKey,
        }),
    ],
    ['a tainted root', (bundle) => Object.assign(bundle.x509Authorities[0]!, { tainted: true })],
    ['a tainted JWT key', (bundle) => Object.assign(bundle.jwtAuthorities[0]!, { tainted: true })],
  ])('with %s are a change', (_, change) => {
    const wire = wireBundle(partner.bundle)
    change(wire)
    const after = apply({ bundles: [readBundle(wire)] }, withPartner)
    expect(isVisible(withPartner, after)).toBe(true)
  })
})

describe('trust', () => {
  const root = authority.root.certificate.fingerprint
  const successor = testAuthority('prod.example', { now: new Date(NOW) })

  test('SVIDs under a tainted root become due at once', () => {
    const after = apply({ bundles: [heldBundle(authority.bundle, { taintedX509: [root] })] })
    expect([...after.svids.values()].map(({ renewAt }) => renewAt)).toEqual([NOW, NOW])
  })

  test('SVIDs under a root that is gone become due at once, and stay until the new ones come', () => {
    const after = apply({ bundles: [heldBundle(successor.bundle)] })
    expect([...after.svids.values()].map(({ renewAt }) => renewAt)).toEqual([NOW, NOW])
  })

  test('SVIDs keep their moment when a root is added', () => {
    const both = {
      ...authority.bundle,
      x509Authorities: [...authority.bundle.x509Authorities, ...successor.bundle.x509Authorities],
    }
    expect(apply({ bundles: [heldBundle(both)] }).svids).toBe(held.svids)
  })

  test('only the SVIDs of the tainted root become due', () => {
    const both = {
      ...authority.bundle,
      x509Authorities: [...authority.bundle.x509Authorities, ...successor.bundle.x509Authorities],
    }
    const mixed = {
      ...held,
      svids: new Map([...held.svids, ['orders', heldSvid(successor, orders)]]),
    }
    const after = apply({ bundles: [heldBundle(both, { taintedX509: [root] })] }, mixed)
    expect(after.svids.get('shop')?.renewAt).toBe(NOW)
    expect(after.svids.get('orders')).toBe(mixed.svids.get('orders'))
  })
})

describe('snapshots', () => {
  const snapshot = (target: string, text: string) => ({
    target,
    content: Buffer.from(text),
    signature: new Uint8Array(64),
    signerChain: [new Uint8Array([1])],
  })

  test('are held by target, replaced and removed', () => {
    const first = apply({ snapshots: [snapshot('spiffe://prod.example/shop', 'one')] })
    const second = apply({ snapshots: [snapshot('spiffe://prod.example/shop', 'two')] }, first)
    expect(second.snapshots.get('spiffe://prod.example/shop')?.content).toEqual(Buffer.from('two'))
    expect(isVisible(first, second)).toBe(true)
    const third = apply({ removedTargets: ['spiffe://prod.example/shop'] }, second)
    expect(third.snapshots.size).toBe(0)
  })

  test('that are the same again are no change', () => {
    const first = apply({ snapshots: [snapshot('spiffe://prod.example/shop', 'one')] })
    const again = apply({ snapshots: [snapshot('spiffe://prod.example/shop', 'one')] }, first)
    expect(isVisible(first, again)).toBe(false)
  })
})

test('a full state that says what is held already is no change', () => {
  const again = heldEntry({ id: 'shop', path: '/shop', createdAt: 1 })
  const full = { full: true, entries: [again, orders], bundles: [heldBundle(authority.bundle)] }
  const after = apply({ ...full, sequence: 7n })
  expect(isVisible(held, after)).toBe(false)
  expect(after.sequence).toBe(7n)
})

test('an agent that holds nothing takes a full state', () => {
  const full = { full: true, entries: [shop], bundles: [heldBundle(authority.bundle)] }
  const after = apply(full, nothingHeld)
  expect(after.entries).toEqual([shop])
  expect(after.bundles.has(trustDomain)).toBe(true)
})

import { Metadata, status } from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import { AgentError } from '../../../agent/errors.js'
import { expiryOf } from '../../../agent/identities/renewal.js'
import { issuerOn } from '../../../agent/sentry/issuer.js'
import { sentryLine } from '../../../agent/sentry/line.js'
import { refusalOf } from '../../../agent/sentry/refusal.js'
import { testAuthority } from '../../support/authority.js'
import { until } from '../../support/until.js'
import { heldBundle, heldEntry } from '../held-values.js'
import { kept } from './kept.js'

const shop = heldEntry({ id: 'shop', path: '/shop' })
const orders = heldEntry({ id: 'orders', path: '/orders' })
const many = (count: number) =>
  Array.from({ length: count }, (_, at) => heldEntry({ id: `e${at}`, path: `/e${at}` }))
const unavailable = () => new AgentError('CS_SENTRY_UNAVAILABLE', 'no sentry answers')
/** What the issuer makes of a sentry that answers a whole call with this status. */
const answered = (code: status) => {
  const cause = Object.assign(new Error('no'), { code, details: 'no', metadata: new Metadata() })
  const line = {
    ...sentryLine(),
    whenOpen: async () => ({ call: async () => Promise.reject(refusalOf(cause)) }) as never,
  }
  return issuerOn(line, { onRefused: () => {} })
    .x509Svids([], never)
    .catch((error: Error) => error) as Promise<Error>
}
const never = new AbortController().signal

describe('prefetch', () => {
  test('an SVID for every entry is in hand before anybody asks, from one call', async () => {
    await using k = kept()
    k.tell({ full: true, entries: [shop, orders] })
    await k.until(() => k.identities.status().x509Svids === 2)
    expect(k.issuer.batches).toEqual([['orders', 'shop']])
    expect(k.identities.x509Svid(shop)?.id).toBe('spiffe://prod.example/shop')
  })

  test('an entry that is fetched on demand waits until somebody asks', async () => {
    await using k = kept()
    const lazy = heldEntry({ id: 'lazy', path: '/lazy', onDemand: true })
    k.tell({ full: true, entries: [lazy, shop] })
    await k.until(() => k.identities.x509Svid(shop) !== undefined)
    expect(k.identities.x509Svid(lazy)).toBeUndefined()
    const svid = await k.identities.whenX509Svid(lazy, never)
    expect(svid.id).toBe('spiffe://prod.example/lazy')
    expect(k.issuer.batches).toEqual([['shop'], ['lazy']])
  })

  test('no call asks for more than 500', async () => {
    await using k = kept()
    k.tell({ full: true, entries: many(510) })
    await k.until(() => k.identities.status().x509Svids === 510)
    expect(k.issuer.batches.map(({ length }) => length)).toEqual([500, 10])
  })

  test('every change is told once, when it is whole', async () => {
    await using k = kept()
    const seen: number[] = []
    k.identities.onChange(() => seen.push(k.identities.status().x509Svids))
    k.tell({ full: true, entries: many(10) })
    await k.until(() => k.identities.status().x509Svids === 10)
    expect(seen).toEqual([0, 10])
  })
})

describe('renewal', () => {
  test('SB-03: comes at the moment that was drawn, which is drawn once and kept', async () => {
    await using k = kept()
    k.tell({ full: true, entries: [shop] })
    await k.until(() => k.identities.status().x509Svids === 1)
    const { svid, renewAt } = k.identities.held().svids.get('shop')!
    const minutes = (renewAt - k.clock.now().getTime()) / 60_000
    expect(minutes).toBeGreaterThan(26.9)
    expect(minutes).toBeLessThan(33.1)

    await k.advanceTo(renewAt - 1)
    expect(k.identities.held().svids.get('shop')?.renewAt).toBe(renewAt)
    expect(k.issuer.batches).toHaveLength(1)
    await k.advanceTo(renewAt)
    await k.until(() => k.identities.x509Svid(shop) !== svid)
    expect(k.issuer.batches).toHaveLength(2)
    expect(k.identities.held().svids.get('shop')?.renewAt).toBeGreaterThan(renewAt)
  })

  test('SB-03: SVIDs that came together are not renewed together', async () => {
    await using k = kept()
    k.tell({ full: true, entries: many(100) })
    await k.until(() => k.identities.status().x509Svids === 100)
    const moments = [...k.identities.held().svids.values()].map(({ renewAt }) => renewAt)
    expect(new Set(moments).size).toBe(100)
    expect(Math.max(...moments) - Math.min(...moments)).toBeGreaterThan(4 * 60_000)
  })

  test('is tried again while the sentry is away, and the old SVID is served until it ends', async () => {
    await using k = kept()
    k.tell({ full: true, entries: [shop] })
    await k.until(() => k.identities.status().x509Svids === 1)
    const { svid, renewAt } = k.identities.held().svids.get('shop')!
    k.issuer.failCalls(unavailable)
    await k.advanceTo(renewAt)
    await k.log.until(({ message }) => message === 'no SVIDs from the sentry')
    await k.advanceTo(expiryOf(svid) - 1)
    expect(k.identities.x509Svid(shop)).toBe(svid)

    k.issuer.failCalls(undefined)
    await k.clock.advance(1)
    expect(k.identities.x509Svid(shop)).not.toBe(svid)
    await k.clock.advance(30_000)
    await k.until(() => k.identities.x509Svid(shop) !== undefined)
  })

  test('an SVID that ends is let go, and that is a change', async () => {
    await using k = kept()
    k.tell({ full: true, entries: [shop] })
    await k.until(() => k.identities.status().x509Svids === 1)
    const { expiresAt } = k.identities.held().svids.get('shop')!
    k.issuer.failCalls(unavailable)
    let changes = 0
    k.identities.onChange(() => {
      changes += 1
    })
    // The keeper may have begun to wait between two milliseconds, and ends as far between two others.
    await k.advanceTo(expiresAt + 1)
    await until(() => changes > 0)
    expect(k.identities.status().x509Svids).toBe(0)
    expect(changes).toBe(1)
  })

  test('a new revision of the entry brings a new SVID; the old one serves until then', async () => {
    await using k = kept()
    k.tell({ full: true, entries: [shop] })
    await k.until(() => k.identities.status().x509Svids === 1)
    const before = k.identities.x509Svid(shop)
    k.issuer.hold()
    k.tell({ entries: [heldEntry({ id: 'shop', path: '/shop', revision: 1 })] })
    expect(k.identities.x509Svid(shop)).toBe(before)
    k.issuer.release()
    await k.until(() => k.identities.x509Svid(shop) !== before)
  })

  test('a tainted root brings new SVIDs at once', async () => {
    await using k = kept()
    k.tell({ full: true, entries: [shop] })
    await k.until(() => k.identities.status().x509Svids === 1)
    const before = k.identities.x509Svid(shop)
    const successor = testAuthority('prod.example', { now: k.clock.now })
    const both = {
      ...k.authority.bundle,
      x509Authorities: [...k.authority.bundle.x509Authorities, ...successor.bundle.x509Authorities],
    }
    k.issuer.useAuthority(successor)
    const tainted = { taintedX509: [k.authority.root.certificate.fingerprint] }
    k.tell({ bundles: [heldBundle(both, tainted)] })
    await k.until(() => k.identities.x509Svid(shop) !== before)
    expect(k.issuer.batches).toHaveLength(2)
  })
})

describe('failure', () => {
  test('an entry that is refused does not hold up the others, and is tried again', async () => {
    await using k = kept()
    k.issuer.refuse('shop', 'no DNS name like that')
    k.tell({ full: true, entries: [shop, orders] })
    await k.until(() => k.identities.x509Svid(orders) !== undefined)
    await expect(k.identities.whenX509Svid(shop, never)).rejects.toMatchObject({
      code: 'CS_ISSUANCE_REFUSED',
      message: 'no DNS name like that',
    })
    k.issuer.refuse('shop', undefined)
    await k.clock.advance(2_000)
    await k.until(() => k.identities.x509Svid(shop) !== undefined)
  })

  test('a refused entry is tried again at once when it has changed', async () => {
    await using k = kept()
    k.issuer.refuse('shop', 'no')
    k.tell({ full: true, entries: [shop] })
    await k.log.until(({ message }) => message === 'no SVID for an entry')
    k.issuer.refuse('shop', undefined)
    k.tell({ entries: [heldEntry({ id: 'shop', path: '/shop', revision: 1 })] })
    await k.until(() => k.identities.status().x509Svids === 1)
  })

  test.each([status.INVALID_ARGUMENT, status.NOT_FOUND, status.PERMISSION_DENIED, status.INTERNAL])(
    'a request that makes its whole call fail with status %i is found by halving and put aside',
    async (code) => {
      await using k = kept()
      const refusal = await answered(code)
      k.issuer.failCalls((ids) => (ids.includes('e5') ? refusal : undefined))
      k.tell({ full: true, entries: many(16) })
      await k.until(() => k.identities.status().x509Svids === 15)
      await expect(
        k.identities.whenX509Svid(heldEntry({ id: 'e5', path: '/e5' }), never),
      ).rejects.toMatchObject({ code: 'CS_ISSUANCE_REFUSED' })
      expect(k.issuer.batches.map(({ length }) => length).slice(0, 2)).toEqual([16, 8])
    },
  )

  test('a sentry that fails whatever it is asked for is not asked for every SVID at once', async () => {
    await using k = kept()
    const refusal = await answered(status.INTERNAL)
    k.issuer.failCalls(() => refusal)
    k.tell({ full: true, entries: many(64) })
    await k.log.until(() => refusedOnes() >= 3)
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    expect(refusedOnes()).toBe(3)
    k.issuer.failCalls(undefined)
    await k.clock.advance(60_000)
    await k.until(() => k.identities.status().x509Svids === 64)

    function refusedOnes(): number {
      return k.log.lines.filter(({ message }) => message === 'no SVID for an entry').length
    }
  })

  test('batches halve while the sentry fails and grow again when it answers', async () => {
    await using k = kept()
    k.issuer.failCalls(unavailable)
    k.tell({ full: true, entries: many(100) })
    await k.log.until(({ message }) => message === 'no SVIDs from the sentry')
    k.issuer.failCalls(undefined)
    await k.clock.advance(1_000)
    await k.until(() => k.identities.status().x509Svids === 100)
    expect(k.issuer.batches.map(({ length }) => length)).toEqual([100, 50, 50])
  })

  test('who waits while the sentry is away is told so, and not kept waiting', async () => {
    await using k = kept()
    k.issuer.failCalls(unavailable)
    k.tell({ full: true, entries: [shop] })
    for (const _ of [1, 2]) {
      await expect(k.identities.whenX509Svid(shop, never)).rejects.toMatchObject({
        code: 'CS_SENTRY_UNAVAILABLE',
      })
    }
    expect(k.issuer.batches).toHaveLength(1)
  })

  test('who waits for an entry that is withdrawn is told so', async () => {
    await using k = kept()
    k.issuer.hold()
    k.tell({ full: true, entries: [shop] })
    const waiting = k.identities.whenX509Svid(shop, never)
    k.tell({ removedEntryIds: ['shop'] })
    await expect(waiting).rejects.toMatchObject({ code: 'CS_ENTRY_WITHDRAWN' })
    k.issuer.release()
    await k.until(() => k.identities.entries().length === 0)
    expect(k.identities.status().x509Svids).toBe(0)
  })

  test('an SVID that comes for an entry withdrawn meanwhile is not kept', async () => {
    await using k = kept()
    k.issuer.hold()
    k.tell({ full: true, entries: [shop, orders] })
    await until(() => k.issuer.batches.length === 1)
    k.tell({ removedEntryIds: ['shop'] })
    k.issuer.release()
    await k.until(() => k.identities.status().x509Svids === 1)
    expect(k.identities.x509Svid(shop)).toBeUndefined()
    expect(k.identities.x509Svid(orders)).toBeDefined()
  })

  test('who waits gives up when their signal says so', async () => {
    await using k = kept()
    k.issuer.hold()
    k.tell({ full: true, entries: [shop] })
    const caller = new AbortController()
    const waiting = k.identities.whenX509Svid(shop, caller.signal)
    caller.abort(new Error('caller has gone'))
    await expect(waiting).rejects.toThrow('caller has gone')
  })

  test.each<[string, Parameters<typeof kept>[0], string]>([
    ['another SPIFFE ID', { idOf: () => 'spiffe://prod.example/admin' as never }, 'was due'],
    ['an end that has passed by this clock', { ttlMs: -1 }, 'already ended'],
  ])('an SVID with %s is not taken', async (_, options, reason) => {
    await using k = kept(options)
    k.tell({ full: true, entries: [shop] })
    const line = await k.log.until(({ message }) => message === 'no SVID for an entry')
    expect(line['reason']).toContain(reason)
    expect(k.identities.status().x509Svids).toBe(0)
  })

  test('an SVID of an authority that is not in our bundle is not taken', async () => {
    await using k = kept({ authority: testAuthority('prod.example') })
    k.tell({ full: true, entries: [shop] })
    const line = await k.log.until(({ message }) => message === 'no SVID for an entry')
    expect(line['reason']).toContain('does not lead to an authority of our bundle')
  })
})

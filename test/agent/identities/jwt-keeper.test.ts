import { describe, expect, test } from 'vitest'
import { AgentError } from '../../../agent/errors.js'
import { decodeJwt, verifyJwtSvid } from '../../../spiffe/index.js'
import { until } from '../../support/until.js'
import { heldBundle, heldEntry } from '../held-values.js'
import { type Kept, kept } from './kept.js'

const shop = heldEntry({ id: 'shop', path: '/shop' })
const never = new AbortController().signal
const unavailable = () => new AgentError('CS_SENTRY_UNAVAILABLE', 'no sentry answers')

async function withShop(options: Parameters<typeof kept>[0] = {}): Promise<Kept> {
  const k = kept(options)
  k.tell({ full: true, entries: [shop] })
  await k.until(() => k.identities.status().x509Svids === 1)
  return k
}
const ask = (k: Kept, ...audience: string[]) =>
  k.identities.jwtSvid({ entry: shop, audience, signal: never })
const numberOf = ({ token }: { token: string }) => decodeJwt(token).claims['jti']

describe('cache', () => {
  test('a token names the entry and the audience, and verifies with our bundle', async () => {
    await using k = await withShop()
    const { token, expiresAt } = await ask(k, 'orders')
    const now = k.clock.now()
    const svid = verifyJwtSvid({ token, bundles: k.identities, audience: 'orders', now })
    expect(svid).toMatchObject({ id: shop.spiffeId, audience: ['orders'], expiresAt })
  })

  test('is by entry and audience, whatever the order and the repetitions of the audience', async () => {
    await using k = await withShop()
    const first = await ask(k, 'b', 'a')
    expect(await ask(k, 'a', 'b', 'a')).toBe(first)
    expect(await ask(k, 'a')).not.toBe(first)
    expect(k.issuer.tokens.map(({ audience }) => audience)).toEqual([['a', 'b'], ['a']])
  })

  test('callers who want the same token at the same time share one call', async () => {
    await using k = await withShop()
    k.issuer.hold()
    const waiting = [ask(k, 'orders'), ask(k, 'orders'), ask(k, 'orders')]
    await until(() => k.issuer.tokens.length === 1)
    k.issuer.release()
    const [first, ...others] = await Promise.all(waiting)
    expect(others).toEqual([first, first])
    expect(k.issuer.tokens).toHaveLength(1)
  })

  test('one caller who gives up does not take the token from the others', async () => {
    await using k = await withShop()
    k.issuer.hold()
    const caller = new AbortController()
    const given = k.identities.jwtSvid({ entry: shop, audience: ['orders'], signal: caller.signal })
    const waiting = ask(k, 'orders')
    caller.abort(new Error('caller has gone'))
    await expect(given).rejects.toThrow('caller has gone')
    k.issuer.release()
    expect((await waiting).token).toBeTruthy()
  })

  test('holds a thousand tokens and lets go of the one used longest ago', async () => {
    await using k = await withShop()
    const kept = await ask(k, 'first')
    await ask(k, 'second')
    for (let at = 0; at < 998; at += 1) await ask(k, `audience-${at}`)
    expect(await ask(k, 'first')).toBe(kept)
    await ask(k, 'one too many')
    expect(k.identities.status().jwtSvids).toBe(1000)
    expect(await ask(k, 'first')).toBe(kept)
    const calls = k.issuer.tokens.length
    await ask(k, 'second')
    expect(k.issuer.tokens).toHaveLength(calls + 1)
  })

  test('keeps the tokens of one workload, however many another asks for', async () => {
    const orders = heldEntry({ id: 'orders', path: '/orders' })
    await using k = kept()
    k.tell({ full: true, entries: [shop, orders] })
    await k.until(() => k.identities.status().x509Svids === 2)
    const mine = await ask(k, 'orders')
    for (let at = 0; at < 1010; at += 1) {
      await k.identities.jwtSvid({ entry: orders, audience: [`audience-${at}`], signal: never })
    }
    expect(k.identities.status().jwtSvids).toBe(1000)
    k.issuer.failCalls(unavailable)
    expect(await ask(k, 'orders')).toBe(mine)
  })
})

describe('refresh', () => {
  test('SB-05: a token in use is refreshed around half of its life, ahead of need', async () => {
    await using k = await withShop()
    await ask(k, 'orders')
    await ask(k, 'orders')
    await k.clock.advance(134_000)
    expect(k.issuer.tokens).toHaveLength(1)
    await k.clock.advance(32_000)
    await until(() => k.issuer.tokens.length === 2)
    expect(numberOf(await ask(k, 'orders'))).toBe('2')
    expect(k.issuer.tokens).toHaveLength(2)
  })

  test('a token that nobody has asked for again is left to end', async () => {
    await using k = await withShop()
    await ask(k, 'orders')
    await k.clock.advance(301_000)
    expect(k.issuer.tokens).toHaveLength(1)
    expect(k.identities.status().jwtSvids).toBe(0)
  })

  test('SB-05: a token that is still valid is given at once while the sentry is slow', async () => {
    await using k = await withShop()
    await ask(k, 'orders')
    k.issuer.hold()
    await k.clock.advance(170_000)
    expect(numberOf(await ask(k, 'orders'))).toBe('1')
    expect(numberOf(await ask(k, 'orders'))).toBe('1')
    expect(k.issuer.tokens).toHaveLength(2)
    k.issuer.release()
    await until(() => k.identities.status().jwtSvids === 1)
  })

  test('SB-05: a token near its end is still given when the sentry does not answer soon', async () => {
    await using k = await withShop()
    await ask(k, 'orders')
    k.issuer.hold()
    await k.clock.advance(295_000)
    const asked = ask(k, 'orders')
    await until(() => k.issuer.tokens.length === 2)
    await k.clock.advance(500)
    expect(numberOf(await asked)).toBe('1')
  })

  test('a token near its end is not given when a newer one comes soon', async () => {
    await using k = await withShop()
    await ask(k, 'orders')
    await k.clock.advance(295_000)
    expect(numberOf(await ask(k, 'orders'))).toBe('2')
  })

  test('a sentry that is away is not asked at every call', async () => {
    await using k = await withShop()
    await ask(k, 'orders')
    k.issuer.failCalls(unavailable)
    await k.clock.advance(170_000)
    for (let at = 0; at < 50; at += 1) expect(numberOf(await ask(k, 'orders'))).toBe('1')
    await until(() => k.issuer.tokens.length >= 2)
    expect(k.issuer.tokens.length).toBeLessThan(4)
  })

  test('when the token has ended and the sentry is away, the caller is told so', async () => {
    await using k = await withShop()
    await ask(k, 'orders')
    k.issuer.failCalls(unavailable)
    await k.clock.advance(300_000)
    await expect(ask(k, 'orders')).rejects.toMatchObject({ code: 'CS_SENTRY_UNAVAILABLE' })
    k.issuer.failCalls(undefined)
    expect(numberOf(await ask(k, 'orders'))).toBeDefined()
  })
})

describe('letting go', () => {
  test('a token goes with its entry', async () => {
    await using k = await withShop()
    await ask(k, 'orders')
    k.tell({ removedEntryIds: ['shop'] })
    expect(k.identities.status().jwtSvids).toBe(0)
    await expect(ask(k, 'orders')).rejects.toMatchObject({ code: 'CS_ENTRY_WITHDRAWN' })
  })

  test('a token goes when its entry changes', async () => {
    await using k = await withShop()
    await ask(k, 'orders')
    k.tell({ entries: [heldEntry({ id: 'shop', path: '/shop', revision: 1 })] })
    expect(numberOf(await ask(k, 'orders'))).toBe('2')
  })

  test.each([
    ['is tainted', { taintedJwt: ['jwt-es256'] }, undefined],
    ['is gone from our bundle', {}, new Map()],
  ])('a token goes when its key %s', async (_, tainted, jwtAuthorities) => {
    await using k = await withShop()
    await ask(k, 'orders')
    const bundle = { ...k.authority.bundle, ...(jwtAuthorities && { jwtAuthorities }) }
    k.tell({ bundles: [heldBundle(bundle, tainted)] })
    expect(k.identities.status().jwtSvids).toBe(0)
  })

  test('a token that comes for an entry withdrawn meanwhile is not kept', async () => {
    await using k = await withShop()
    k.issuer.hold()
    const asked = ask(k, 'orders')
    await until(() => k.issuer.tokens.length === 1)
    k.tell({ removedEntryIds: ['shop'] })
    k.issuer.release()
    await asked
    expect(k.identities.status().jwtSvids).toBe(0)
  })

  test('a token of another SPIFFE ID is not given to anybody', async () => {
    await using k = await withShop({ idOf: () => 'spiffe://prod.example/shop' as never })
    const admin = heldEntry({ id: 'admin', path: '/admin' })
    k.tell({ entries: [admin] })
    const asked = k.identities.jwtSvid({ entry: admin, audience: ['a'], signal: never })
    await expect(asked).rejects.toMatchObject({ code: 'CS_SENTRY_RESPONSE_INVALID' })
  })

  test('a token that has ended by this clock says that the clocks differ', async () => {
    const anHourAgo = { now: () => new Date(k.clock.now().getTime() - 3_600_000) }
    await using k: Kept = await withShop()
    k.issuer.useClock(anHourAgo)
    await expect(ask(k, 'orders')).rejects.toMatchObject({ code: 'CS_CLOCK_SKEWED' })
  })
})

import { status } from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import { PermissionDeniedDetails_Reason as Reason } from '../../../proto/gen/spire/api/types/types.js'
import type { SpiffeId } from '../../../spiffe/index.js'
import { testAuthority } from '../../support/authority.js'
import { entry, wireBundle } from '../../support/fake-sentry.js'
import { attested, untilHeld, type World, world } from '../running-agent.js'

const shop = entry({ id: 'shop', path: '/shop' })
const orders = entry({ id: 'orders', path: '/orders' })
const many = (count: number) =>
  Array.from({ length: count }, (_, at) => entry({ id: `e${at}`, path: `/e${at}` }))

/** Lets the next round begin and waits for its end. */
async function nextRound(w: World): Promise<void> {
  const rounds = w.sentry.count('GetBundle')
  await w.clock.advance(5_500)
  await w.sentry.until(() => w.sentry.count('GetBundle') > rounds)
}

describe('a sentry without the push stream, as a SPIRE server', () => {
  test('is polled: the agent is ready, has its SVIDs and tells its version', async () => {
    await using w = await world({ push: false })
    const agent = await attested(w, { entries: [shop, orders] })
    expect(agent.identities.status()).toMatchObject({ connected: true, problem: undefined })
    expect(w.sentry.agentVersions).toEqual(['0.1.0-test'])
    await w.log.until(({ message }) => message === 'sentry does not push, so it is polled')
  })

  test('is asked every 5 s with a tenth of jitter', async () => {
    await using w = await world({ push: false })
    await attested(w, { entries: [shop] })
    const rounds = w.sentry.count('SyncAuthorizedEntries')
    await w.clock.advance(4_400)
    expect(w.sentry.count('SyncAuthorizedEntries')).toBe(rounds)
    await w.clock.advance(1_100)
    await w.sentry.until(() => w.sentry.count('SyncAuthorizedEntries') === rounds + 1)
  })

  test('entries come, change and go with the next round', async () => {
    await using w = await world({ push: false })
    const { identities } = await attested(w, { entries: [shop] })
    const before = identities.x509Svid(identities.entries()[0]!)
    w.sentry.removeEntries('shop')
    w.sentry.setEntries(orders)
    await nextRound(w)
    await untilHeld({ identities } as never, () => identities.status().x509Svids === 1)
    expect(identities.entries().map(({ id }) => id)).toEqual(['orders'])
    expect(before).toBeDefined()
    w.sentry.setEntries(entry({ id: 'orders', path: '/orders', revision: 1 }))
    const old = identities.x509Svid(identities.entries()[0]!)
    await nextRound(w)
    await untilHeld({ identities } as never, () => {
      const [held] = identities.entries()
      return held?.revision === 1n && identities.x509Svid(held) !== old
    })
  })

  test('a round in which nothing has changed tells nobody', async () => {
    await using w = await world({ push: false })
    const { identities } = await attested(w, { entries: [shop] })
    let changes = 0
    identities.onChange(() => {
      changes += 1
    })
    await nextRound(w)
    await nextRound(w)
    expect(changes).toBe(0)
  })

  test('federated bundles are fetched by name; one that is not there yet is no failure', async () => {
    await using w = await world({ push: false })
    const partner = testAuthority('partner.example', { now: w.clock.now })
    const federatesWith = ['partner.example', 'prod.example']
    const { identities } = await attested(w, {
      entries: [entry({ id: 'shop', path: '/shop', federatesWith })],
    })
    expect(identities.bundles().size).toBe(1)
    expect(identities.status().problem).toBeUndefined()
    w.sentry.setBundles(wireBundle(partner.bundle))
    await nextRound(w)
    await untilHeld({ identities } as never, () => identities.bundles().size === 2)
    expect(w.sentry.calls.filter(({ method }) => method === 'GetFederatedBundle')).toHaveLength(2)
  })

  test('a renewed agent SVID moves polling to a new connection', async () => {
    await using w = await world({ push: false, agentTtlMs: 40_000 })
    const agent = await attested(w, { entries: [shop] })
    const before = agent.identities.status().serialNumber
    await w.passUntil(() => w.sentry.calls.at(-1)?.serial !== before)
    expect(w.sentry.count('RenewAgent')).toBe(1)
    expect(w.sentry.calls.at(-1)?.serial).toBe(agent.identities.status().serialNumber)
  })

  test('a request to reconnect between two rounds is followed without a word', async () => {
    await using w = await world({ push: false })
    const { identities } = await attested(w, { entries: [shop] })
    w.sentry.goAway()
    w.sentry.setEntries(orders)
    await nextRound(w)
    await untilHeld({ identities } as never, () => identities.status().x509Svids === 2)
    expect(identities.status()).toMatchObject({ connected: true, problem: undefined })
    expect(w.log.lines.some(({ code }) => code === 'CS_SENTRY_UNAVAILABLE')).toBe(false)
  })

  test('a ban ends service here too', async () => {
    await using w = await world({ push: false })
    const agent = await attested(w, { entries: [shop] })
    w.sentry.ban(agent.identities.status().agentId as SpiffeId)
    await w.clock.advance(5_500)
    await untilHeld(agent, () => agent.identities.entries().length === 0)
    expect(agent.identities.status().problem?.code).toBe('CS_BANNED_BY_SENTRY')
  })

  test('a failed round keeps what is held, is reported, and the next one is made', async () => {
    await using w = await world({ push: false })
    const { identities } = await attested(w, { entries: [shop] })
    w.sentry.fail('GetBundle', { code: status.INTERNAL, details: 'no bundle today' })
    await w.clock.advance(5_500)
    await w.log.until(({ reason }) => String(reason).includes('no bundle today'))
    expect(identities.status()).toMatchObject({ entries: 1, x509Svids: 1, connected: false })
    w.sentry.fail('GetBundle', undefined)
    await w.passUntil(() => identities.status().connected)
  })

  test('a version that the sentry does not take is not its concern', async () => {
    await using w = await world({ push: false })
    w.sentry.fail('PostStatus', { code: status.UNIMPLEMENTED })
    await attested(w, { entries: [shop] })
  })

  test('an agent that is not accepted says so', async () => {
    await using w = await world({ push: false })
    w.sentry.addToken('t')
    const reason = Reason.AGENT_NOT_ACTIVE
    w.sentry.fail('SyncAuthorizedEntries', { code: status.PERMISSION_DENIED, reason })
    await w.agent({ joinToken: 't' })
    await w.log.until(({ code }) => code === 'CS_OWN_SVID_SUPERSEDED')
  })
})

describe('a long list of entries comes page by page', () => {
  test.each([9, 10, 11, 25, 30])('%i entries in pages of 10', async (count) => {
    await using w = await world({ push: false, pageSize: 10 })
    const { identities } = await attested(w, { entries: many(count) })
    expect(identities.entries()).toHaveLength(count)
    await nextRound(w)
    expect(identities.entries()).toHaveLength(count)
  })

  test('only what is new or has changed is fetched', async () => {
    await using w = await world({ push: false, pageSize: 10 })
    const { identities } = await attested(w, { entries: many(25) })
    const asked = w.sentry.entriesSent()
    w.sentry.setEntries(
      entry({ id: 'e3', path: '/e3', revision: 1 }),
      entry({ id: 'e4', path: '/e4', createdAt: 1_800_000_000 }),
      entry({ id: 'new', path: '/new' }),
    )
    w.sentry.removeEntries('e5')
    await nextRound(w)
    await untilHeld({ identities } as never, () => identities.status().x509Svids === 25)
    expect(w.sentry.entriesSent() - asked).toBe(3)
    const held = new Map(identities.entries().map((each) => [each.id, each]))
    expect(held.get('e3')?.revision).toBe(1n)
    expect(held.get('e4')?.createdAt).toBe(1_800_000_000n)
    expect(held.has('new')).toBe(true)
    expect(held.has('e5')).toBe(false)
  })
})

test('a sentry that is moved back and forth between push and polling is followed either way', async () => {
  await using polled = await world({ push: false })
  await using pushed = await world({ authority: polled.authority })
  for (const { sentry } of [polled, pushed]) sentry.setEntries(shop)
  const sentries = [polled.sentry.address, pushed.sentry.address]
  const agent = await attested(polled, { entries: [shop], sentries })
  pushed.sentry.adopt(polled.sentry)
  await polled.sentry.stop()
  await polled.passUntil(() => pushed.sentry.acknowledgements.length === 1)
  expect(agent.identities.status()).toMatchObject({ connected: true, entries: 1, x509Svids: 1 })
})

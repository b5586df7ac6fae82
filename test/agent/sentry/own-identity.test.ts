import { copyFile } from 'node:fs/promises'
import { status } from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import type { RunningAgent } from '../../../agent/agent.js'
import { readState } from '../../../agent/state.js'
import { PermissionDeniedDetails_Reason as Reason } from '../../../proto/gen/spire/api/types/types.js'
import type { SpiffeId } from '../../../spiffe/index.js'
import { testAuthority } from '../../support/authority.js'
import { entry, wireBundle } from '../../support/fake-sentry.js'
import { until } from '../../support/until.js'
import { attested, stateFileIn, untilHeld, world } from '../running-agent.js'

const shop = entry({ id: 'shop', path: '/shop', selectors: ['unix:uid:1001'] })
const serialOf = (agent: RunningAgent) => agent.identities.status().serialNumber
const idOf = (agent: RunningAgent) => agent.identities.status().agentId as SpiffeId
const soon = () => AbortSignal.timeout(15_000)

describe('renewal of the agent’s own SVID', () => {
  test('SB-03: comes at a moment drawn once, on the old connection, and moves to a new one', async () => {
    await using w = await world()
    const agent = await attested(w, { entries: [shop] })
    const before = serialOf(agent)
    const { own } = await w.sealed()
    const minutes = (own!.renewAt - w.clock.now().getTime()) / 60_000
    expect(minutes).toBeGreaterThan(26.9)
    expect(minutes).toBeLessThan(33.1)
    await w.clock.advance(own!.renewAt - w.clock.now().getTime() - 1)
    expect(w.sentry.count('RenewAgent')).toBe(0)
    expect((await w.sealed()).own?.renewAt).toBe(own!.renewAt)

    await w.advanceTo(own!.renewAt)
    await w.sentry.until(() => w.sentry.count('Follow') === 2)
    const after = serialOf(agent)
    expect(after).not.toBe(before)
    expect(w.sentry.calls.filter(({ method }) => /Renew|Follow/.test(method))).toEqual([
      { method: 'Follow', serial: before },
      { method: 'RenewAgent', serial: before },
      { method: 'Follow', serial: after },
    ])
    await w.sentry.until(() => w.sentry.followers() === 1)
    expect(w.sentry.agent(idOf(agent))).toEqual({ serial: after, pending: '' })
    expect(agent.identities.status()).toMatchObject({ connected: true, problem: undefined })
  })

  test('is sealed before the new SVID is used, so that a crash never loses both', async () => {
    await using w = await world()
    const agent = await attested(w)
    const { own } = await w.sealed()
    w.sentry.fail('Follow', 'hang')
    await w.advanceTo(own!.renewAt)
    await w.sentry.until(() => w.sentry.count('Follow') === 2)
    const sealed = await w.sealed((state) => state.own?.renewAt !== own!.renewAt)
    expect(sealed.own?.svid.chain[0].serialNumber).toBe(serialOf(agent))
  })

  test('that could not be sealed is not used, and is made again', async () => {
    await using w = await world()
    const file = await stateFileIn(w.folder)
    let full = false
    const stateFile = {
      ...file,
      write: (plain: Uint8Array) =>
        full ? Promise.reject(new Error('no space')) : file.write(plain),
    }
    const agent = await attested(w, { stateFile })
    const before = serialOf(agent)
    const state = readState((await file.read())!, w.authority.trustDomain)
    full = true
    await w.advanceTo(state.own!.renewAt)
    await w.log.until(({ message }) => message === "the agent's own SVID could not be renewed")
    expect(serialOf(agent)).toBe(before)
    full = false
    await w.passUntil(() => w.sentry.agent(idOf(agent))?.serial !== before)
  })

  test('that fails is tried again, and the old SVID is used meanwhile', async () => {
    await using w = await world()
    const agent = await attested(w)
    const before = serialOf(agent)
    const { own } = await w.sealed()
    w.sentry.fail('RenewAgent', { code: status.INTERNAL, details: 'database is locked' })
    await w.advanceTo(own!.renewAt)
    await w.sentry.until(() => w.sentry.count('RenewAgent') === 1)
    w.sentry.fail('RenewAgent', undefined)
    expect(serialOf(agent)).toBe(before)
    await w.log.until(({ message }) => message === "the agent's own SVID could not be renewed")
    await w.passUntil(() => w.sentry.count('Follow') === 2)
    expect(serialOf(agent)).not.toBe(before)
  })

  test('waits for the sentry when that is away, and comes when it is back', async () => {
    await using w = await world()
    const agent = await attested(w)
    const before = serialOf(agent)
    const { own } = await w.sealed()
    await w.sentry.stop()
    await w.log.until(({ code }) => code === 'CS_SENTRY_UNAVAILABLE')
    await w.advanceTo(own!.renewAt + 60_000)
    await w.sentry.start()
    await w.passUntil(() => w.sentry.agent(idOf(agent))?.serial !== before)
    expect(w.sentry.count('RenewAgent')).toBe(1)
  })

  test('comes at once when its root is tainted', async () => {
    await using w = await world()
    const agent = await attested(w)
    const before = serialOf(agent)
    const next = testAuthority('prod.example', { now: w.clock.now })
    const both = {
      ...w.authority.bundle,
      x509Authorities: [...w.authority.bundle.x509Authorities, ...next.bundle.x509Authorities],
      sequence: 2n,
    }
    w.sentry.useAuthority(next, both)
    const tainted = { taintedX509: [w.authority.root.certificate.fingerprint] }
    w.sentry.setBundles(wireBundle(both, tainted))
    await w.sentry.until(() => w.sentry.count('Follow') === 2)
    expect(serialOf(agent)).not.toBe(before)
  })

  test('calls that run while the connection changes are not lost', async () => {
    await using w = await world()
    const agent = await attested(w, { entries: [shop] })
    const { own } = await w.sealed()
    const [held] = agent.identities.entries()
    const asked = Array.from({ length: 50 }, (_, at) =>
      agent.identities.jwtSvid({ entry: held!, audience: [`a${at}`], signal: soon() }),
    )
    await w.advanceTo(own!.renewAt)
    const more = Array.from({ length: 50 }, (_, at) =>
      agent.identities.jwtSvid({ entry: held!, audience: [`b${at}`], signal: soon() }),
    )
    await w.sentry.until(() => w.sentry.count('Follow') === 2)
    expect(await Promise.all([...asked, ...more])).toHaveLength(100)
  })
})

describe('a second user of the same identity', () => {
  test('is told from the first by its serial, says so, and goes on serving what it holds', async () => {
    await using w = await world()
    await using copy = await world({ authority: w.authority })
    const agent = await attested(w, { entries: [shop] })
    const { own } = await w.sealed()
    await copyFile(w.folder.file('agent-state'), copy.folder.file('agent-state'))
    await w.advanceTo(own!.renewAt)
    await w.sentry.until(() => w.sentry.count('Follow') === 2)
    expect(agent.identities.status().connected).toBe(true)

    const thief = await copy.agent({ sentries: [w.sentry.address] })
    const line = await copy.log.until(({ code }) => code === 'CS_OWN_SVID_SUPERSEDED')
    expect(line.level).toBe('warn')
    expect(thief.identities.status()).toMatchObject({
      connected: false,
      x509Svids: 1,
      problem: { code: 'CS_OWN_SVID_SUPERSEDED' },
    })
    expect(agent.identities.status().connected).toBe(true)
  })
})

describe('a ban', () => {
  test('ends all service at once, says so, and holds over a restart', async () => {
    await using w = await world()
    const agent = await attested(w, { entries: [shop] })
    const [held] = agent.identities.entries()
    w.sentry.ban(idOf(agent))
    await untilHeld(agent, () => agent.identities.entries().length === 0)
    expect(agent.identities.x509Svid(held!)).toBeUndefined()
    expect(agent.identities.status()).toMatchObject({
      agentId: undefined,
      x509Svids: 0,
      problem: { code: 'CS_BANNED_BY_SENTRY' },
    })
    await w.log.until(({ level, code }) => level === 'error' && code === 'CS_BANNED_BY_SENTRY')
    await w.sealed((state) => state.banned && state.own === undefined)
    await agent.close()

    const again = await w.agent({ joinToken: 'token-1' })
    await expect(again.whenReady(soon())).rejects.toMatchObject({ code: 'CS_BANNED_BY_SENTRY' })
    expect(w.sentry.count('AttestAgent')).toBe(1)
  })

  test('that an issuing call meets first counts as well', async () => {
    await using w = await world()
    const agent = await attested(w)
    const reason = Reason.AGENT_BANNED
    w.sentry.fail('BatchNewX509SVID', { code: status.PERMISSION_DENIED, reason })
    w.sentry.setEntries(shop)
    await w.log.until(({ level, code }) => level === 'error' && code === 'CS_BANNED_BY_SENTRY')
    expect(agent.identities.entries()).toEqual([])
  })

  test('is over with a new token after the operator has evicted the agent', async () => {
    await using w = await world()
    const agent = await attested(w, { entries: [shop] })
    w.sentry.ban(idOf(agent))
    await w.sealed((state) => state.banned)
    await agent.close()
    w.sentry.addToken('token-2')
    const again = await w.agent({ joinToken: 'token-2' })
    await again.whenReady(soon())
    await untilHeld(again, () => again.identities.status().x509Svids === 1)
    expect((await w.sealed()).banned).toBe(false)
  })
})

describe('an agent whose SVID the sentry no longer accepts', () => {
  test('that was evicted says so, keeps serving, and attests again with a new token', async () => {
    await using w = await world()
    const agent = await attested(w, { entries: [shop] })
    const [held] = agent.identities.entries()
    w.sentry.evict(idOf(agent))
    await w.log.until(({ code }) => code === 'CS_UNKNOWN_TO_SENTRY')
    expect(agent.identities.x509Svid(held!)).toBeDefined()
    expect(agent.identities.status().problem?.code).toBe('CS_UNKNOWN_TO_SENTRY')
    await w.sealed()
    await agent.close()

    w.sentry.addToken('token-2')
    const again = await w.agent({ joinToken: 'token-2' })
    expect(again.readiness().ready).toBe(true)
    await until(() => idOf(again)?.endsWith('token-2') ?? false)
    await w.sentry.until(() => again.identities.status().connected)
    expect(again.identities.status().problem).toBeUndefined()
  })

  test('whose SVID has ended says so, keeps serving nothing but asks for a token', async () => {
    await using w = await world({ agentTtlMs: 600_000 })
    const agent = await attested(w, { entries: [shop] })
    await w.sentry.stop()
    await w.clock.advance(700_000)
    await w.sentry.start()
    await w.passUntil(() => agent.identities.status().problem?.code === 'CS_OWN_SVID_EXPIRED')
    const [held] = agent.identities.entries()
    expect(agent.identities.x509Svid(held!)).toBeDefined()
    expect(agent.readiness()).toEqual({
      ready: false,
      reasons: ["CS_OWN_SVID_EXPIRED: the agent's own SVID has expired"],
    })
  })

  test('asks again ever more seldom', async () => {
    await using w = await world()
    const agent = await attested(w)
    w.sentry.evict(idOf(agent))
    await w.log.until(({ code }) => code === 'CS_UNKNOWN_TO_SENTRY')
    const start = w.clock.now().getTime()
    await w.passUntil(() => w.sentry.count('Follow') === 4)
    expect(w.clock.now().getTime() - start).toBeGreaterThan(2_500 + 5_000 + 10_000 - 1_000)
  })

  test.each<[string, Reason, string]>([
    ['AGENT_EXPIRED', Reason.AGENT_EXPIRED, 'CS_OWN_SVID_EXPIRED'],
    ['AGENT_NOT_ATTESTED', Reason.AGENT_NOT_ATTESTED, 'CS_UNKNOWN_TO_SENTRY'],
    ['AGENT_NOT_ACTIVE', Reason.AGENT_NOT_ACTIVE, 'CS_OWN_SVID_SUPERSEDED'],
    ['AGENT_MUST_REATTEST', Reason.AGENT_MUST_REATTEST, 'CS_REATTESTATION_REQUIRED'],
    ['no reason', Reason.UNKNOWN, 'CS_SENTRY_UNAVAILABLE'],
  ])('is told %s', async (_, reason, code) => {
    await using w = await world()
    w.sentry.addToken('t')
    w.sentry.fail('Follow', { code: status.PERMISSION_DENIED, reason })
    const agent = await w.agent({ joinToken: 't' })
    await w.log.until((line) => line['code'] === code)
    expect(agent.identities.status().problem?.code).toBe(code)
  })
})

import { readFile } from 'node:fs/promises'
import { status } from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import { PlatformError } from '../../platform/errors.js'
import { testAuthority } from '../support/authority.js'
import { entry, wireBundle } from '../support/fake-sentry.js'
import { seededRandom } from '../support/seeded-random.js'
import { attested, stateFileIn, untilHeld, world } from './running-agent.js'

const shop = entry({ id: 'shop', path: '/shop', selectors: ['unix:uid:1001'] })
const orders = entry({ id: 'orders', path: '/orders', selectors: ['unix:uid:1002'] })
const soon = () => AbortSignal.timeout(15_000)
const HALF_AN_HOUR = 1_800_000

describe('the first start', () => {
  test('attests with a join token and has an SVID for every entry before anybody asks', async () => {
    await using w = await world()
    const agent = await attested(w, { entries: [shop, orders] })
    const [first, second] = agent.identities.entries()
    expect(first && agent.identities.x509Svid(first)?.id).toBe('spiffe://prod.example/orders')
    expect(second && agent.identities.x509Svid(second)?.id).toBe('spiffe://prod.example/shop')
    expect(agent.readiness()).toEqual({ ready: true, reasons: [] })
    expect(agent.identities.status()).toMatchObject({
      agentId: 'spiffe://prod.example/spire/agent/join_token/token-1',
      connected: true,
      entries: 2,
      problem: undefined,
    })
    expect(w.sentry.agentVersions).toEqual(['0.1.0-test'])
  })

  test('attests without a certificate and speaks with one from then on', async () => {
    await using w = await world()
    const agent = await attested(w, { entries: [shop] })
    const { serialNumber } = agent.identities.status()
    const calls = w.sentry.calls.map(({ method, serial }) => [method, serial])
    expect(calls).toEqual([
      ['AttestAgent', undefined],
      ['GetBundle', undefined],
      ['Follow', serialNumber],
      ['BatchNewX509SVID', serialNumber],
    ])
  })

  test('shows the token only after it has proved that it can keep what comes', async () => {
    await using w = await world()
    w.sentry.addToken('t')
    const file = await stateFileIn(w.folder)
    const full = new PlatformError('CS_FILE_UNWRITABLE', 'no space')
    const agent = await w.agent({
      joinToken: 't',
      stateFile: { ...file, write: () => Promise.reject(full) },
    })
    await w.log.until(({ code }) => code === 'CS_FILE_UNWRITABLE')
    expect(w.sentry.count('AttestAgent')).toBe(0)
    expect(agent.readiness().reasons).toEqual(['CS_FILE_UNWRITABLE: no space'])
  })

  test('has sealed the new SVID before it does anything else with it', async () => {
    await using w = await world()
    w.sentry.addToken('t')
    w.sentry.fail('GetBundle', 'hang')
    await w.agent({ joinToken: 't' })
    await w.sentry.until(() => w.sentry.count('GetBundle') === 1)
    const sealed = await (await stateFileIn(w.folder)).read()
    expect(Buffer.from(sealed!).toString()).toContain('"own":{"chain"')
  })

  test('a sentry may be named by a host name', async () => {
    await using w = await world()
    const agent = await attested(w, {
      sentries: [w.sentry.address.replace('127.0.0.1', 'localhost')],
    })
    expect(agent.identities.status().connected).toBe(true)
  })

  test('a wrong bundle can be put right: nothing of it is kept', async () => {
    await using w = await world()
    w.sentry.addToken('t')
    const wrong = testAuthority('prod.example', { now: w.clock.now }).bundle
    const misled = await w.agent({ joinToken: 't', trustBundle: wrong })
    await w.log.until(({ message }) => message === 'not in step with the sentry')
    await misled.close()
    const agent = await w.agent({ joinToken: 't' })
    await agent.whenReady(soon())
  })

  test('a token that was used already is refused for good, and says so', async () => {
    await using w = await world()
    const agent = await w.agent({ joinToken: 'used' })
    await expect(agent.whenReady(soon())).rejects.toMatchObject({ code: 'CS_ATTESTATION_REJECTED' })
    await w.clock.advance(600_000)
    expect(w.sentry.count('AttestAgent')).toBe(1)
    expect(agent.readiness().reasons[0]).toMatch(/^CS_ATTESTATION_REJECTED: .*already been used/)
  })

  test('a sentry that is not up yet is waited for', async () => {
    await using w = await world()
    await w.sentry.stop()
    w.sentry.addToken('t')
    const agent = await w.agent({ joinToken: 't' })
    await w.log.until(({ code }) => code === 'CS_SENTRY_UNAVAILABLE')
    expect(agent.readiness().ready).toBe(false)
    await w.sentry.start()
    await w.passUntil(() => agent.readiness().ready)
  })

  test('an agent without a token or state says what it is missing', async () => {
    await using w = await world()
    const agent = await w.agent()
    await expect(agent.whenReady(soon())).rejects.toMatchObject({ code: 'CS_EVIDENCE_MISSING' })
  })

  test.each<[string, object]>([
    ['no bundle', { trustBundle: undefined }],
    ['the bundle of another trust domain', { trustBundle: testAuthority('b.example').bundle }],
    [
      'a bundle without a root',
      { trustBundle: { ...testAuthority('prod.example').bundle, x509Authorities: [] } },
    ],
  ])('an agent with %s does not start', async (_, options) => {
    await using w = await world()
    await expect(w.agent({ joinToken: 't', ...options })).rejects.toMatchObject({
      code: 'CS_TRUST_BUNDLE_MISSING',
    })
  })
})

describe('restart', () => {
  test('SB-06: with the sentry away, everything is served from the sealed state', async () => {
    await using w = await world()
    const partner = testAuthority('partner.example', { now: w.clock.now })
    const snapshot = {
      target: 'spiffe://prod.example/shop',
      content: Buffer.from('{}'),
      signature: Buffer.alloc(64),
      signerChain: [Buffer.from([1])],
    }
    w.sentry.setBundles(wireBundle(partner.bundle))
    w.sentry.setSnapshots(snapshot)
    const before = await attested(w, { entries: [shop, orders] })
    const { serialNumber } = before.identities.status()
    const moments = (await w.sealed()).held.svids
    await before.close()
    await w.sentry.stop()

    const agent = await w.agent({ trustBundle: undefined as never })
    await agent.whenReady(soon())
    const { identities } = agent
    expect(identities.status()).toMatchObject({ serialNumber, x509Svids: 2, entries: 2 })
    expect([...identities.bundles().keys()]).toEqual(['prod.example', 'partner.example'])
    expect(identities.snapshot('spiffe://prod.example/shop' as never)).toEqual(snapshot)
    for (const each of identities.entries()) expect(identities.x509Svid(each)).toBeDefined()
    const after = (await w.sealed()).held.svids
    expect([...after].map(([id, { renewAt }]) => [id, renewAt])).toEqual(
      [...moments].map(([id, { renewAt }]) => [id, renewAt]),
    )
    await w.log.until(({ code }) => code === 'CS_SENTRY_UNAVAILABLE')
    expect(agent.readiness().ready).toBe(true)
  })

  test('SB-06: with the sentry away, SVIDs are served to their end and no longer', async () => {
    await using w = await world()
    const before = await attested(w, { entries: [shop] })
    await w.sealed()
    await before.close()
    await w.sentry.stop()
    const { identities } = await w.agent()
    const [held] = identities.entries()
    await w.clock.advance(3_600_000 - 1_000)
    expect(identities.x509Svid(held!)).toBeDefined()
    await w.clock.advance(1_001)
    expect(identities.x509Svid(held!)).toBeUndefined()
  })

  test('with the sentry there, it goes on with the SVIDs it has', async () => {
    await using w = await world()
    const before = await attested(w, { entries: [shop] })
    await w.sealed()
    await before.close()
    const agent = await w.agent({ joinToken: 'token-1' })
    await w.sentry.until(() => w.sentry.acknowledgements.length === 2)
    expect(agent.identities.status()).toMatchObject({ connected: true, x509Svids: 1 })
    expect(w.sentry.count('AttestAgent')).toBe(1)
    expect(w.sentry.count('BatchNewX509SVID')).toBe(1)
  })

  test('takes away what was withdrawn while it was down', async () => {
    await using w = await world()
    const before = await attested(w, { entries: [shop, orders] })
    await w.sealed()
    await before.close()
    w.sentry.removeEntries('orders')
    const { identities } = await w.agent()
    await w.sentry.until(() => w.sentry.acknowledgements.length === 2)
    expect(identities.entries().map(({ id }) => id)).toEqual(['shop'])
  })

  test('nothing on disk shows a key, a token or a name', async () => {
    await using w = await world()
    await attested(w, { entries: [shop], token: 'very-secret-token' })
    await w.sealed()
    const raw = await readFile(w.folder.file('agent-state'))
    for (const text of [
      'prod.example',
      'very-secret-token',
      'privateKey',
      'countersign agent state',
    ]) {
      expect(raw.includes(text)).toBe(false)
    }
  })
})

describe('a sentry that is away', () => {
  test('for half an SVID’s life: SVIDs are served, and renewal resumes when it is back', async () => {
    await using w = await world()
    const { identities } = await attested(w, { entries: [shop] })
    const [held] = identities.entries()
    const old = identities.x509Svid(held!)
    const { renewAt } = (await w.sealed()).held.svids.get('shop')!
    await w.advanceTo(renewAt - 60_000)
    await w.sentry.stop()
    await w.log.until(({ code }) => code === 'CS_SENTRY_UNAVAILABLE')
    await w.clock.advance(60_000)
    await w.log.until(({ message }) => message === 'no SVIDs from the sentry')
    await w.clock.advance(HALF_AN_HOUR - 600_000)
    expect(identities.x509Svid(held!)).toBe(old)
    expect(identities.status()).toMatchObject({
      connected: false,
      problem: { code: 'CS_SENTRY_UNAVAILABLE' },
    })

    await w.sentry.start()
    await w.passUntil(() => identities.x509Svid(held!) !== old)
    expect(identities.status().connected).toBe(true)
    expect(identities.status().problem).toBeUndefined()
  })

  test('is replaced by the next one at once, and then kept', async () => {
    await using w = await world()
    await using second = await world({ authority: w.authority })
    second.sentry.setEntries(shop)
    const sentries = [w.sentry.address, second.sentry.address]
    const agent = await attested(w, { entries: [shop], sentries })
    second.sentry.adopt(w.sentry)
    await w.sentry.stop()
    await w.log.until(({ code }) => code === 'CS_SENTRY_UNAVAILABLE')
    await w.passUntil(() => second.sentry.acknowledgements.length === 1)
    expect(agent.identities.status().connected).toBe(true)

    await w.sentry.start()
    await w.clock.advance(HALF_AN_HOUR / 3)
    expect(w.sentry.followers()).toBe(0)
  })

  test('that asks to reconnect is dialled again when there is something to ask, and nobody notices', async () => {
    await using w = await world()
    const agent = await attested(w, { entries: [shop] })
    const connections = w.sentry.connections()
    w.sentry.goAway()
    const [held] = agent.identities.entries()
    const request = { entry: held!, audience: ['orders'], signal: soon() }
    expect((await agent.identities.jwtSvid(request)).token).toBeTruthy()
    expect(w.sentry.connections()).toBe(connections + 1)
    w.sentry.setEntries(orders)
    await untilHeld(agent, () => agent.identities.status().x509Svids === 2)
    expect(agent.identities.status()).toMatchObject({ connected: true, problem: undefined })
  })

  test('that ends the stream in good order is dialled again, and nobody notices', async () => {
    await using w = await world()
    const agent = await attested(w, { entries: [shop] })
    let changes = 0
    agent.identities.onChange(() => {
      changes += 1
    })
    w.sentry.endStreams()
    await w.sentry.until(() => w.sentry.followers() === 0)
    await w.passUntil(() => w.sentry.acknowledgements.length === 2)
    expect(agent.identities.status().connected).toBe(true)
    expect(changes).toBe(0)
  })
})

describe('what the sentry pushes', () => {
  test('SB-01: a new entry’s SVID is in hand at once', async () => {
    await using w = await world()
    const { identities } = await attested(w)
    const started = process.hrtime.bigint()
    w.sentry.setEntries(shop)
    await untilHeld({ identities } as never, () => identities.status().x509Svids === 1)
    const ms = Number(process.hrtime.bigint() - started) / 1e6
    console.log(`entry pushed to SVID in hand: ${ms.toFixed(1)} ms`)
    expect(identities.entriesFor([{ type: 'unix', value: 'uid:1001' }])).toHaveLength(1)
  })

  test('is acknowledged when it has been applied, with the sequence of our bundle', async () => {
    await using w = await world()
    const { identities } = await attested(w)
    w.sentry.setBundles(wireBundle({ ...w.authority.bundle, sequence: 5n }))
    await w.sentry.until(() => w.sentry.acknowledgements.length === 2)
    const [first, second] = w.sentry.acknowledgements
    expect(first?.bundleSequence).toBe(1n)
    expect(second).toMatchObject({ bundleSequence: 5n, sequence: identities.status().sequence })
  })

  test('is answered with what the sidecars report, whenever that changes', async () => {
    await using w = await world()
    const { identities } = await attested(w)
    const report = {
      target: 'spiffe://prod.example/shop',
      instance: 'a',
      snapshotId: 'abc',
      generation: 1n,
      state: 'current',
      code: '',
    }
    identities.report(report)
    identities.report({ ...report, instance: 'b' })
    await w.sentry.until(() => w.sentry.acknowledgements.length === 2)
    expect(w.sentry.acknowledgements[1]?.reports).toEqual([report, { ...report, instance: 'b' }])
    identities.forgetReport(report.target, 'a')
    await w.sentry.until(() => w.sentry.acknowledgements.length === 3)
    expect(w.sentry.acknowledgements[2]?.reports).toEqual([{ ...report, instance: 'b' }])
  })

  test('in several messages is one change', async () => {
    await using w = await world()
    const { identities } = await attested(w)
    const seen: number[] = []
    identities.onChange(() => seen.push(identities.entries().length))
    w.sentry.push({ entries: [shop], more: true })
    w.sentry.push({ entries: [orders], more: true })
    w.sentry.push({ bundles: [wireBundle(testAuthority('partner.example').bundle)] })
    await untilHeld({ identities } as never, () => identities.bundles().size === 2)
    expect(seen[0]).toBe(2)
  })

  test('a withdrawn entry, and a bundle no longer federated, are gone at once', async () => {
    await using w = await world()
    w.sentry.setBundles(wireBundle(testAuthority('partner.example').bundle))
    const { identities } = await attested(w, { entries: [shop, orders] })
    const [held] = identities.entriesFor([{ type: 'unix', value: 'uid:1001' }])
    w.sentry.removeEntries('shop')
    w.sentry.removeBundles('partner.example')
    await untilHeld({ identities } as never, () => identities.bundles().size === 1)
    expect(identities.entries().map(({ id }) => id)).toEqual(['orders'])
    expect(identities.x509Svid(held!)).toBeUndefined()
    expect(() => identities.bundleFor('partner.example' as never)).toThrow(
      expect.objectContaining({ code: 'CS_BUNDLE_NOT_FOUND' }),
    )
  })

  test('JWT-SVIDs come over the same connection', async () => {
    await using w = await world()
    const { identities } = await attested(w, { entries: [shop] })
    const [held] = identities.entries()
    const request = { entry: held!, audience: ['orders'], signal: soon() }
    const [first, second] = [await identities.jwtSvid(request), await identities.jwtSvid(request)]
    expect(first.token).toBe(second.token)
    expect(w.sentry.count('NewJWTSVID')).toBe(1)
    w.sentry.fail('NewJWTSVID', { code: status.NOT_FOUND, details: 'entry not found' })
    await expect(identities.jwtSvid({ ...request, audience: ['other'] })).rejects.toMatchObject({
      code: 'CS_ISSUANCE_REFUSED',
    })
  })
})

test('a part that stops for a reason nobody foresaw makes the agent unready, and it still closes', async () => {
  await using w = await world()
  const random = seededRandom(1)
  let works = true
  const agent = await attested(w, {
    entries: [shop],
    random: {
      ...random,
      fraction() {
        if (!works) throw new TypeError('no chance')
        return random.fraction()
      },
    },
  })
  works = false
  await w.sentry.stop()
  await w.log.until(({ code }) => code === 'CS_AGENT_BROKEN')
  expect(agent.readiness()).toEqual({
    ready: false,
    reasons: ['CS_AGENT_BROKEN: TypeError: no chance'],
  })
  expect(agent.identities.status().x509Svids).toBe(1)
  works = true
  await agent.close()
})

describe('sealed state that cannot be used', () => {
  const attempts = (flip: (bytes: Buffer) => Buffer) => async () => {
    await using w = await world()
    const before = await attested(w, { entries: [shop] })
    await w.sealed()
    await before.close()
    const path = w.folder.file('agent-state')
    const broken = flip(await readFile(path))
    const { writeFile } = await import('node:fs/promises')
    await writeFile(path, broken)
    await expect(w.agent({ joinToken: 'another' })).rejects.toMatchObject({
      code: 'CS_SEAL_BROKEN',
    })
    expect(await readFile(path)).toEqual(broken)
    expect(w.sentry.count('AttestAgent')).toBe(1)
  }

  test(
    'one bit flipped: the agent does not start and leaves the file as it is',
    attempts((bytes) => {
      const at = Math.floor(bytes.length / 2)
      bytes[at] = bytes[at]! ^ 1
      return bytes
    }),
  )
  test(
    'truncated: the same',
    attempts((bytes) => bytes.subarray(0, bytes.length - 7)),
  )
  test(
    'empty: the same',
    attempts(() => Buffer.alloc(0)),
  )

  test('a wrong key: the same', async () => {
    await using w = await world()
    const before = await attested(w)
    await before.close()
    const stateFile = await stateFileIn(w.folder, new Uint8Array(32).fill(8))
    await expect(w.agent({ stateFile })).rejects.toMatchObject({ code: 'CS_SEAL_BROKEN' })
  })

  test('another trust domain: the same', async () => {
    await using w = await world()
    const before = await attested(w)
    await before.close()
    const { trustDomain, bundle } = testAuthority('other.example')
    await expect(w.agent({ trustDomain, trustBundle: bundle })).rejects.toMatchObject({
      code: 'CS_STATE_FOREIGN',
    })
  })
})

describe('closing', () => {
  test('closes the sockets first, then everything, once', async () => {
    await using w = await world()
    const order: string[] = []
    const agent = await attested(w, {
      entries: [shop],
      serve: async () => ({
        async [Symbol.asyncDispose]() {
          order.push(`sockets, connected ${agent.identities.status().connected}`)
        },
      }),
    })
    await Promise.all([agent.close(), agent.close()])
    await agent.close()
    expect(order).toEqual(['sockets, connected true'])
    await w.sentry.until(() => w.sentry.followers() === 0)
    expect(w.clock.waiting()).toBe(0)
  })

  test('a socket that cannot be opened stops the agent and is the reason given', async () => {
    await using w = await world()
    w.sentry.addToken('t')
    const taken = new Error('socket is taken')
    const serve = () => Promise.reject(taken)
    await expect(w.agent({ joinToken: 't', serve })).rejects.toBe(taken)
    expect(w.clock.waiting()).toBe(0)
  })
})

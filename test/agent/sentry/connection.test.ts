import { randomBytes } from 'node:crypto'
import { createServer, type Socket } from 'node:net'
import { describe, expect, test } from 'vitest'
import { dial } from '../../../agent/sentry/connection.js'
import { listenOn } from '../../../platform/listen.js'
import { bundleSet, makeSpiffeId, type X509Svid } from '../../../spiffe/index.js'
import { type TestAuthority, testAuthority } from '../../support/authority.js'
import { fakeClock } from '../../support/fake-clock.js'
import { entry, fakeSentry } from '../../support/fake-sentry.js'
import { until } from '../../support/until.js'
import { world } from '../running-agent.js'

const clock = fakeClock()
const prod = testAuthority('prod.example', { now: clock.now })
const partner = testAuthority('partner.example', { now: clock.now })
const HOUR = 3_600_000
const sentryId = makeSpiffeId(prod.trustDomain, '/spire/server')

async function refusalBy(identity: X509Svid, bundles = [prod.bundle, partner.bundle]) {
  await using sentry = await fakeSentry({ authority: prod, clock, identity })
  const options = {
    address: sentry.address,
    trustDomain: prod.trustDomain,
    bundles: bundleSet(bundles),
    identity: undefined,
    clock,
    onServerTime: () => {},
  }
  try {
    const connection = await dial(options, new AbortController().signal)
    connection.close()
    return undefined
  } catch (error) {
    expect(sentry.calls).toEqual([])
    return error
  }
}

describe('whom an agent takes for its sentry', () => {
  test('the one with the SPIFFE ID of the server of its own trust domain', async () => {
    expect(await refusalBy(prod.issueX509({ id: '/spire/server' }))).toBeUndefined()
  })

  test.each<[string, () => X509Svid, string]>([
    [
      'our sentry’s ID, signed by a federated domain’s CA',
      () => partner.issueX509({ id: sentryId }),
      'CS_PEER_CHAIN_INVALID',
    ],
    [
      'the sentry of a federated domain',
      () => partner.issueX509({ id: '/spire/server' }),
      'CS_PEER_NOT_AUTHORIZED',
    ],
    ['a workload of ours', () => prod.issueX509({ id: '/shop' }), 'CS_PEER_NOT_AUTHORIZED'],
    [
      'an agent of ours',
      () => prod.issueX509({ id: '/spire/agent/join_token/x' }),
      'CS_PEER_NOT_AUTHORIZED',
    ],
    [
      'our sentry’s ID under an authority that nobody knows',
      () => testAuthority('prod.example', { now: clock.now }).issueX509({ id: '/spire/server' }),
      'CS_PEER_CHAIN_INVALID',
    ],
    [
      'a trust domain that nobody knows',
      () => testAuthority('other.example', { now: clock.now }).issueX509({ id: '/spire/server' }),
      'CS_BUNDLE_NOT_FOUND',
    ],
  ])('not %s', async (_, identity, code) => {
    expect(await refusalBy(identity())).toMatchObject({ code })
  })

  test('not anybody when it holds no bundle', async () => {
    const refusal = await refusalBy(prod.issueX509({ id: '/spire/server' }), [])
    expect(refusal).toMatchObject({ code: 'CS_BUNDLE_NOT_FOUND' })
  })
})

describe('a clock an hour off', () => {
  const at = (authority: TestAuthority, notBefore: number, notAfter: number) => {
    const now = clock.now().getTime()
    return authority.issueX509({
      id: '/spire/server',
      notBefore: new Date(now + notBefore),
      notAfter: new Date(now + notAfter),
    })
  }

  test('behind: the message says by how much at least', async () => {
    expect(await refusalBy(at(prod, HOUR - 10_000, 2 * HOUR))).toMatchObject({
      code: 'CS_CLOCK_SKEWED',
      message:
        'this clock is at least 59m 50s behind: the sentry’s certificate is not valid yet'.replace(
          '’',
          "'",
        ),
    })
  })

  test('ahead: the message says since when the certificate would have ended', async () => {
    expect(await refusalBy(at(prod, -2 * HOUR, -HOUR / 2))).toMatchObject({
      code: 'CS_CLOCK_SKEWED',
      message: "this clock is ahead, or the sentry's certificate ended 30m 0s ago",
    })
  })

  test('a certificate that nobody vouches for says nothing about clocks', async () => {
    const stranger = testAuthority('prod.example', { now: clock.now })
    expect(await refusalBy(stranger.issueX509({ id: '/spire/server' }))).toMatchObject({
      code: 'CS_PEER_CHAIN_INVALID',
    })
  })

  /** An agent whose sentry's certificate is valid on both clocks, which differ. */
  async function skewedBy(off: number) {
    const dayBefore = new Date(clock.now().getTime() - 24 * HOUR)
    const w = await world({ authority: testAuthority('prod.example', { now: dayBefore }) })
    const long = { notBefore: new Date(0), notAfter: new Date(Date.parse('2030-01-01')) }
    const identity = w.authority.issueX509({ id: '/spire/server', ...long })
    const sentryClock = { ...w.clock, now: () => new Date(w.clock.now().getTime() - off) }
    const sentry = await fakeSentry({ authority: w.authority, clock: sentryClock, identity })
    sentry.addToken('t')
    sentry.setEntries(entry({ id: 'shop', path: '/shop' }))
    const agent = await w.agent({ sentries: [sentry.address], joinToken: 't' })
    return {
      w,
      agent,
      async [Symbol.asyncDispose]() {
        await w[Symbol.asyncDispose]()
        await sentry[Symbol.asyncDispose]()
      },
    }
  }

  test('an hour ahead: what is issued has ended on arrival, and the message says by how much', async () => {
    await using skewed = await skewedBy(HOUR)
    const line = await skewed.w.log.until(({ code }) => code === 'CS_CLOCK_SKEWED')
    expect(line['reason']).toMatch(/^this clock is 1h 0m ahead/)
    await skewed.w.clock.advance(60_000)
    expect(skewed.agent.readiness()).toMatchObject({
      ready: false,
      reasons: [expect.stringMatching(/^CS_CLOCK_SKEWED: this clock is 1h 0m ahead/)],
    })
  })

  test.each([
    ['two minutes ahead', 120_000, /^this clock is (2m 0s|1m 59s) ahead of the sentry's$/],
    ['two minutes behind', -120_000, /^this clock is (2m 0s|1m 59s) behind the sentry's$/],
  ])('%s: the agent works and says so', async (_, off, text) => {
    await using skewed = await skewedBy(off)
    const line = await skewed.w.log.until(({ message }) => message === 'clocks differ')
    expect(line).toMatchObject({ level: 'warn', code: 'CS_CLOCK_SKEWED' })
    expect(line['reason']).toMatch(text)
    await skewed.w.passUntil(() => skewed.agent.readiness().ready)
    expect(skewed.agent.identities.status().problem?.code).toBe('CS_CLOCK_SKEWED')
  })
})

describe('an address where no sentry answers', () => {
  const dialling = (port: number) =>
    dial(
      {
        address: `127.0.0.1:${port}`,
        trustDomain: prod.trustDomain,
        bundles: bundleSet([prod.bundle]),
        identity: undefined,
        clock,
        onServerTime: () => {},
      },
      new AbortController().signal,
    )
  const unavailable = { code: 'CS_SENTRY_UNAVAILABLE' }

  test('because nothing listens there', async () => {
    const { port } = await listening(() => {})
    await expect(dialling(port)).rejects.toMatchObject(unavailable)
  })

  test.each<[string, (socket: Socket) => void]>([
    ['hangs up', (socket) => socket.destroy()],
    ['sends what is no TLS', (socket) => socket.end(randomBytes(4096))],
    ['speaks HTTP', (socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')],
  ])('because what listens there %s', async (_, act) => {
    await using peer = await listening(act, true)
    await expect(dialling(peer.port)).rejects.toMatchObject(unavailable)
  })

  test('because what listens there says nothing', async () => {
    let connected = false
    await using peer = await listening(() => {
      connected = true
    }, true)
    const dialled = dialling(peer.port)
    dialled.catch(() => undefined)
    await until(() => connected)
    await clock.advance(10_000)
    await expect(dialled).rejects.toMatchObject(unavailable)
  })
})

/** A server on a port of its own; gone again at once unless it is to stay. */
async function listening(act: (socket: Socket) => void, stays = false) {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => {}))
    act(socket)
  })
  const { port } = await listenOn(server, { host: '127.0.0.1', port: 0 })
  const close = async () => {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  }
  if (!stays) await close()
  return { port, [Symbol.asyncDispose]: close }
}

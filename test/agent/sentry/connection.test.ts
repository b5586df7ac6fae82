import { describe, expect, test } from 'vitest'
import { dial } from '../../../agent/sentry/connection.js'
import { bundleSet, makeSpiffeId, type X509Svid } from '../../../spiffe/index.js'
import { type TestAuthority, testAuthority } from '../../support/authority.js'
import { fakeClock } from '../../support/fake-clock.js'
import { entry, fakeSentry } from '../../support/fake-sentry.js'
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

  test.each<[string, number, string]>([
    ['ahead', HOUR, "this clock is 1h 0m ahead of the sentry's"],
    ['behind', -20_000, 'behind'],
  ])(
    '%s while the sentry’s certificate is valid on both: it is measured',
    async (way, off, text) => {
      await using w = await world()
      const long = { notBefore: new Date(0), notAfter: new Date(Date.parse('2030-01-01')) }
      const identity = w.authority.issueX509({ id: '/spire/server', ...long })
      const sentryClock = { ...w.clock, now: () => new Date(w.clock.now().getTime() - off) }
      await using sentry = await fakeSentry({
        authority: w.authority,
        clock: sentryClock,
        identity,
      })
      sentry.addToken('t')
      sentry.setEntries(entry({ id: 'shop', path: '/shop' }))
      const agent = await w.agent({ sentries: [sentry.address], joinToken: 't' })
      const line = await w.log.until(({ code }) => code === 'CS_CLOCK_SKEWED')
      expect(line['reason']).toContain(text)
      expect(agent.readiness().ready).toBe(way !== 'ahead' && false)
      expect(agent.readiness().reasons[0]).toContain('CS_CLOCK_SKEWED')
    },
  )
})

test('an address where nothing listens, and one that is no gRPC server, say so', async () => {
  const sentry = await fakeSentry({ authority: prod, clock })
  await sentry.stop()
  const options = {
    address: sentry.address,
    trustDomain: prod.trustDomain,
    bundles: bundleSet([prod.bundle]),
    identity: undefined,
    clock,
    onServerTime: () => {},
  }
  await expect(dial(options, new AbortController().signal)).rejects.toMatchObject({
    code: 'CS_SENTRY_UNAVAILABLE',
  })
  await sentry[Symbol.asyncDispose]()
})

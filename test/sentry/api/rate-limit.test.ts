import { status } from '@grpc/grpc-js'
import { expect, test } from 'vitest'
import { AgentClient } from '../../../proto/gen/spire/api/server/agent/v1/agent.js'
import { addressKey, rateLimiter } from '../../../sentry/api/rate-limit.js'
import { defaultRateLimits, serviceLimits } from '../../../sentry/api/service-limits.js'
import { fakeClock } from '../../support/fake-clock.js'
import { attestWith, auditRecords, refusalOf, testSentry, unknownToken } from '../running-sentry.js'

const refusal = (reserve: () => number) => {
  try {
    return reserve()
  } catch (error) {
    return error
  }
}

test('a burst of one second is let through, the next waits its turn, and what waits too long is refused', async () => {
  const clock = fakeClock()
  const limiter = rateLimiter({ perSecond: 10, maxWaitMs: 200 }, clock)
  const reserve = () => limiter.reserve('a')
  expect(Array.from({ length: 12 }, reserve)).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 200])
  expect(refusal(reserve)).toMatchObject({ code: 'CS_RATE_LIMITED', retryAfterMs: 300 })
  expect(limiter.reserve('b')).toBe(0)
  await clock.advance(150)
  expect(reserve()).toBe(150)
})

test('what was not used is there again after a second, and no more than that', async () => {
  const clock = fakeClock()
  const limiter = rateLimiter({ perSecond: 5, maxWaitMs: 0 }, clock)
  for (let round = 0; round < 2; round += 1) {
    expect(limiter.reserve('a', 5)).toBe(0)
    expect(refusal(() => limiter.reserve('a'))).toMatchObject({ code: 'CS_RATE_LIMITED' })
    await clock.advance(60_000)
  }
})

test('more at once than the limit ever allows is refused, however long one waits', () => {
  const limiter = rateLimiter({ perSecond: 5, maxWaitMs: 60_000 }, fakeClock())
  expect(refusal(() => limiter.reserve('a', 6))).toMatchObject({ code: 'CS_RATE_LIMITED' })
})

test('ten thousand callers do not fill the memory: those that come after share one limit', () => {
  const limiter = rateLimiter({ perSecond: 1, maxWaitMs: 0 }, fakeClock())
  for (let caller = 0; caller < 10_000; caller += 1) limiter.reserve(`c${caller}`)
  limiter.reserve('one more')
  expect(refusal(() => limiter.reserve('and another'))).toMatchObject({ code: 'CS_RATE_LIMITED' })
})

test('a caller that gives up while it waits is let go, and the admin socket never waits', async () => {
  const one = { perSecond: 1, maxWaitMs: 5000 }
  const limits = serviceLimits({ ...defaultRateLimits, sign: one }, fakeClock())
  const gone = new AbortController()
  const anonymous = { kind: 'anonymous', address: '192.0.2.1' } as const
  await limits.take('sign', { caller: anonymous, signal: gone.signal })
  const waiting = limits.take('sign', { caller: anonymous, signal: gone.signal })
  gone.abort(new Error('gone'))
  await expect(waiting).rejects.toThrow('gone')
  for (let call = 0; call < 10; call += 1) {
    await limits.take('sign', { caller: { kind: 'local' }, signal: gone.signal })
  }
})

test.each([
  ['192.0.2.1', '192.0.2.1'],
  ['::ffff:192.0.2.1', '::ffff:192.0.2.1'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2'],
  ['2001:db8:1:2::6', '2001:db8:1:2'],
  ['2001:db8::6', '2001:db8:0:0'],
  ['::1', '0:0:0:0'],
])('%s counts as %s', (address, key) => {
  expect(addressKey(address)).toBe(key)
})

test('attesting is limited by address, and the refusal says when to come back', async () => {
  const clock = fakeClock(new Date())
  await using test = await testSentry({ clock, rateLimits: defaultRateLimits })
  const client = test.remote(AgentClient)
  const attempt = () => refusalOf(attestWith(client, unknownToken()))
  expect((await attempt()).code).toBe('CS_JOIN_TOKEN_INVALID')
  const second = attempt()
  const third = await attempt()
  expect([third.status, third.code]).toEqual([status.RESOURCE_EXHAUSTED, 'CS_RATE_LIMITED'])
  expect(Number(third.error.metadata.get('grpc-retry-pushback-ms')[0])).toBeGreaterThan(1000)
  await clock.advance(1000)
  expect((await second).code).toBe('CS_JOIN_TOKEN_INVALID')
  // Anybody could fill the disk with records of having asked too often.
  await clock.advance(0)
  expect(await auditRecords(test, 'agent.denied.v1')).toHaveLength(2)
})

import { status } from '@grpc/grpc-js'
import { expect, test } from 'vitest'
import { AgentClient } from '../../../proto/gen/spire/api/server/agent/v1/agent.js'
import { addressKey, rateLimiter } from '../../../sentry/api/rate-limit.js'
import { defaultRateLimits } from '../../../sentry/api/service-limits.js'
import { fakeClock } from '../../support/fake-clock.js'
import { attestWith, refusalOf, testSentry, unknownToken } from '../running-sentry.js'

const signal = new AbortController().signal

test('a burst of one second is let through, the next waits its turn, and what waits too long is refused', async () => {
  const clock = fakeClock()
  const limiter = rateLimiter({ perSecond: 10, maxWaitMs: 200 }, clock)
  for (let call = 0; call < 10; call += 1) await limiter.take('a', { signal })
  let served = 0
  const waiting = [1, 2].map(() => limiter.take('a', { signal }).then(() => (served += 1)))
  await expect(limiter.take('a', { signal })).rejects.toMatchObject({
    code: 'CS_RATE_LIMITED',
    retryAfterMs: 300,
  })
  await limiter.take('b', { signal })
  expect(served).toBe(0)
  await clock.advance(100)
  expect(served).toBe(1)
  await clock.advance(100)
  await Promise.all(waiting)
})

test('what was not used is there again after a second, and no more than that', async () => {
  const clock = fakeClock()
  const limiter = rateLimiter({ perSecond: 5, maxWaitMs: 0 }, clock)
  await limiter.take('a', { cost: 5, signal })
  await expect(limiter.take('a', { signal })).rejects.toMatchObject({ code: 'CS_RATE_LIMITED' })
  await clock.advance(60_000)
  await limiter.take('a', { cost: 5, signal })
  await expect(limiter.take('a', { signal })).rejects.toMatchObject({ code: 'CS_RATE_LIMITED' })
})

test('more at once than the limit ever allows is refused, however long one waits', async () => {
  const limiter = rateLimiter({ perSecond: 5, maxWaitMs: 60_000 }, fakeClock())
  await expect(limiter.take('a', { cost: 6, signal })).rejects.toMatchObject({
    code: 'CS_RATE_LIMITED',
  })
})

test('a caller that gives up while it waits is let go', async () => {
  const limiter = rateLimiter({ perSecond: 1, maxWaitMs: 5000 }, fakeClock())
  await limiter.take('a', { signal })
  const gone = new AbortController()
  const waiting = limiter.take('a', { signal: gone.signal })
  gone.abort(new Error('gone'))
  await expect(waiting).rejects.toThrow('gone')
})

test('ten thousand callers do not fill the memory: those that come after share one limit', async () => {
  const limiter = rateLimiter({ perSecond: 1, maxWaitMs: 0 }, fakeClock())
  for (let caller = 0; caller < 10_000; caller += 1) await limiter.take(`c${caller}`, { signal })
  await limiter.take('one more', { signal })
  await expect(limiter.take('and another', { signal })).rejects.toMatchObject({
    code: 'CS_RATE_LIMITED',
  })
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
})

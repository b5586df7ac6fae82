import { setImmediate } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { Follower } from '../../../agent/workload-api/follower.js'
import { pushes } from '../../../agent/workload-api/pushes.js'
import { fakeClock } from '../../support/fake-clock.js'
import { fakeIdentities } from '../../support/fake-identities.js'
import { seededRandom } from '../../support/seeded-random.js'

interface FakeFollower extends Follower {
  state: ReturnType<Follower['standing']>
  deliveries: number
}

function fakeFollower(onDeliver: () => void = () => {}): FakeFollower {
  const over = new AbortController()
  const fake: FakeFollower = {
    state: 'stale',
    deliveries: 0,
    over: over.signal,
    dueAt: undefined,
    standing: () => fake.state,
    async deliver() {
      fake.deliveries += 1
      fake.state = 'current'
      onDeliver()
    },
    end: () => over.abort(),
  }
  return fake
}

function setUp(
  options: { massStreams?: number; massWindowMs?: number; reattestEveryMs?: number } = {},
) {
  const identities = fakeIdentities()
  const clock = fakeClock()
  const followed = pushes({ identities, clock, random: seededRandom(7), ...options })
  return { identities, clock, followed }
}

const delivered = (followers: readonly FakeFollower[], times: number) =>
  followers.filter(({ deliveries }) => deliveries === times).length

describe('a change', () => {
  test('WL-14 does not delay first messages, however many streams open', async () => {
    const { followed } = setUp({ massStreams: 10 })
    const followers = Array.from({ length: 200 }, () => fakeFollower())
    for (const follower of followers) followed.follow(follower)
    expect(delivered(followers, 1)).toBe(200)
  })

  test('reaches only the streams it concerns, and at once when they are few', async () => {
    const { followed, identities, clock } = setUp({ massStreams: 10 })
    const followers = Array.from({ length: 100 }, () => fakeFollower())
    for (const follower of followers) followed.follow(follower)
    for (const follower of followers.slice(0, 10)) follower.state = 'stale'
    identities.touch()
    await clock.advance(0)
    expect(delivered(followers, 2)).toBe(10)
  })

  test('WL-15 is spread over the window when it concerns many, each stream at a moment of its own', async () => {
    const { followed, identities, clock } = setUp({ massStreams: 99, massWindowMs: 1000 })
    const followers = Array.from({ length: 100 }, () => fakeFollower())
    for (const follower of followers) followed.follow(follower)
    for (const follower of followers) follower.state = 'stale'
    identities.touch()
    await clock.advance(1)
    expect(delivered(followers, 2)).toBeLessThan(10)
    await clock.advance(499)
    expect(delivered(followers, 2)).toBeGreaterThan(20)
    expect(delivered(followers, 2)).toBeLessThan(80)
    await clock.advance(510)
    expect(delivered(followers, 2)).toBe(100)
  })

  test('WL-87 takes an identity away at once, also in the middle of a change for many', async () => {
    const { followed, identities, clock } = setUp({ massStreams: 50, massWindowMs: 60_000 })
    const followers = Array.from({ length: 100 }, () => fakeFollower())
    for (const follower of followers) followed.follow(follower)
    for (const follower of followers) follower.state = 'stale'
    identities.touch()
    await clock.advance(10)
    const [first, second] = followers.filter(({ deliveries }) => deliveries === 1)
    first!.state = 'refused'
    identities.touch()
    await clock.advance(10)
    expect(first!.deliveries).toBe(2)
    expect(second!.deliveries).toBe(1)
  })

  test('does not move the moment that a stream has drawn for an earlier one', async () => {
    const { followed, identities, clock } = setUp({ massStreams: 50, massWindowMs: 1000 })
    const followers = Array.from({ length: 100 }, () => fakeFollower())
    for (const follower of followers) followed.follow(follower)
    for (const follower of followers) follower.state = 'stale'
    for (let elapsed = 0; elapsed < 1010; elapsed += 50) {
      identities.touch()
      await clock.advance(50)
    }
    expect(delivered(followers, 2)).toBe(100)
  })

  test('lets the event loop turn at least every 32 streams', async () => {
    const { followed, identities, clock } = setUp({ massStreams: 1000 })
    let inThisTurn = 0
    let most = 0
    const count = () => {
      inThisTurn += 1
      most = Math.max(most, inThisTurn)
    }
    const followers = Array.from({ length: 500 }, () => fakeFollower(count))
    for (const follower of followers) followed.follow(follower)
    for (const follower of followers) follower.state = 'stale'
    inThisTurn = 0
    most = 0
    identities.touch()
    while (delivered(followers, 2) < 500) {
      await setImmediate()
      inThisTurn = 0
    }
    expect(most).toBeLessThanOrEqual(64)
    await clock.advance(0)
  })
})

describe('a quiet stream', () => {
  test('SB-11 has its caller looked at again from time to time', async () => {
    const { followed, clock } = setUp({ reattestEveryMs: 5000 })
    const follower = fakeFollower()
    followed.follow(follower)
    await clock.advance(4999)
    expect(follower.deliveries).toBe(1)
    await clock.advance(1)
    expect(follower.deliveries).toBe(2)
    await clock.advance(5000)
    expect(follower.deliveries).toBe(3)
  })

  test('is forgotten when it is over', async () => {
    const { followed, clock } = setUp({ reattestEveryMs: 5000 })
    const follower = fakeFollower()
    followed.follow(follower)
    expect(followed.count()).toBe(1)
    follower.end(undefined)
    expect(followed.count()).toBe(0)
    await clock.advance(5000)
    expect(follower.deliveries).toBe(1)
  })
})

describe('closing', () => {
  test('ends every stream and leaves nothing that waits', async () => {
    const { followed, identities, clock } = setUp({ massStreams: 1, massWindowMs: 1000 })
    const followers = [fakeFollower(), fakeFollower()]
    for (const follower of followers) followed.follow(follower)
    for (const follower of followers) follower.state = 'stale'
    identities.touch()
    await clock.advance(0)
    await followed.close(new Error('over'))
    await followed.close(new Error('over'))
    expect(followers.every(({ over }) => over.aborted)).toBe(true)
    expect(clock.waiting()).toBe(0)
    followed.follow(fakeFollower())
    expect(followed.count()).toBe(0)
  })
})

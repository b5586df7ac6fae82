import { describe, expect, test } from 'vitest'
import { exponentialBackoff } from '../../platform/backoff.js'
import { systemClock } from '../../platform/clock.js'
import { systemRandom } from '../../platform/random.js'
import { fakeClock } from '../support/fake-clock.js'
import { seededRandom } from '../support/seeded-random.js'

const never = new AbortController().signal

describe('the system clock', () => {
  test('wakes a sleeper after its time', async () => {
    const start = systemClock.hrtime()
    await systemClock.sleep(5, never)
    expect(systemClock.hrtime() - start).toBeGreaterThanOrEqual(4_000_000n)
  })

  test('ends a wait for a time that is no number at once', async () => {
    await systemClock.sleep(Number.NaN, never)
  })

  test.each([
    ['sleeps', 60_000],
    ['sleeps for longer than a timer can', 2 ** 40],
  ])('ends a wait that %s as soon as it is told', async (_, ms) => {
    const stop = new AbortController()
    const waiting = systemClock.sleep(ms, stop.signal)
    stop.abort(new Error('stop'))
    await expect(waiting).rejects.toThrow('stop')
  })

  test('does not begin a wait that was told to end before', async () => {
    await expect(systemClock.sleep(60_000, AbortSignal.abort(new Error('stop')))).rejects.toThrow(
      'stop',
    )
  })
})

describe('the clock of tests', () => {
  test('wakes sleepers in the order of their times, also those that go to sleep again', async () => {
    const clock = fakeClock()
    const woken: string[] = []
    const sleeper = async (name: string, ...waits: number[]) => {
      for (const ms of waits) {
        await clock.sleep(ms, never)
        woken.push(`${name}@${Number(clock.hrtime()) / 1e6}`)
      }
    }
    void sleeper('b', 20, 15)
    void sleeper('a', 10, 20)
    await clock.advance(40)
    expect(woken).toEqual(['a@10', 'b@20', 'a@30', 'b@35'])
  })
})

describe('waits that grow', () => {
  test('lie in the upper half of a doubling ceiling, up to the longest', () => {
    const backoff = exponentialBackoff({ firstMs: 100, maxMs: 1000, random: seededRandom(7) })
    for (const ceiling of [100, 200, 400, 800, 1000, 1000]) {
      const wait = backoff.nextMs()
      expect(wait).toBeGreaterThanOrEqual(ceiling / 2)
      expect(wait).toBeLessThanOrEqual(ceiling)
    }
    backoff.reset()
    expect(backoff.nextMs()).toBeLessThanOrEqual(100)
  })

  test('differ from one process to the next', () => {
    const waits = Array.from({ length: 20 }, () =>
      exponentialBackoff({ firstMs: 1000, maxMs: 1000, random: systemRandom }).nextMs(),
    )
    expect(new Set(waits).size).toBeGreaterThan(10)
  })
})

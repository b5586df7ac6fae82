import { describe, expect, test, vi } from 'vitest'
import { nodeRuntime } from '../../spiffe/runtime.js'

describe('the clock of the process', () => {
  test('sleeps and wakes', async () => {
    const before = process.hrtime.bigint()
    await nodeRuntime.clock.sleep(5, new AbortController().signal)
    expect(process.hrtime.bigint() - before).toBeGreaterThan(3_000_000n)
  })

  test('a sleep for a time that is no number ends at once', async () => {
    await nodeRuntime.clock.sleep(Number.NaN, new AbortController().signal)
  })

  test('a sleep ends with the reason of its signal, before it began or in its midst', async () => {
    const stop = new AbortController()
    const sleeping = nodeRuntime.clock.sleep(3_600_000, stop.signal)
    const reason = new Error('enough')
    stop.abort(reason)
    await expect(sleeping).rejects.toBe(reason)
    await expect(nodeRuntime.clock.sleep(0, stop.signal)).rejects.toBe(reason)
  })

  test('TRAP-12: a wait beyond the longest timer is made of several', async () => {
    vi.useFakeTimers()
    try {
      const days = 28 * 86_400_000
      let awake = false
      const sleeping = nodeRuntime.clock
        .sleep(days, new AbortController().signal)
        .then(() => (awake = true))
      await vi.advanceTimersByTimeAsync(days - 1)
      expect(awake).toBe(false)
      await vi.advanceTimersByTimeAsync(1)
      await sleeping
    } finally {
      vi.useRealTimers()
    }
  })
})

test('chance lies in [0, 1) and the environment is that of the process', () => {
  const fraction = nodeRuntime.random.fraction()
  expect(fraction).toBeGreaterThanOrEqual(0)
  expect(fraction).toBeLessThan(1)
  expect(nodeRuntime.environment).toBe(process.env)
})

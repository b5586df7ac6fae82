import { expect, test } from 'vitest'
import { fakeClock } from './fake-clock.js'

test('arrives at the moment it was advanced to, whatever fractions it woke sleepers at', async () => {
  const { signal } = new AbortController()
  for (let round = 1; round <= 50; round += 1) {
    const clock = fakeClock(new Date('2026-11-20T12:00:00Z'))
    const begun = clock.now().getTime()
    const waits = Array.from({ length: 7 }, (_, at) => (round * (at + 1) * 1000) / 7.3)
    const asleep = Promise.all(waits.map((ms) => clock.sleep(ms, signal)))
    await clock.advance(3_600_000)
    expect(clock.now().getTime()).toBe(begun + 3_600_000)
    await asleep
  }
})

import type { Clock } from '../../platform/clock.js'

/** A clock that stands until it is moved. Sleepers wake in order as time passes them. */
export interface FakeClock extends Clock {
  /** Moves time and lets everything that waited run, step by step. */
  advance(ms: number): Promise<void>
  /** Moves the wall clock alone, as an administrator or NTP does; sleepers are not woken. */
  setWallClock(date: Date): void
  /** How many sleepers wait. */
  waiting(): number
}

interface Sleeper {
  readonly at: number
  readonly wake: () => void
}

export function fakeClock(start = new Date('2026-11-20T12:00:00Z')): FakeClock {
  let elapsed = 0
  /** What the wall clock is ahead of `elapsed`: a sum of the two has no error that adds up. */
  let offset = start.getTime()
  const sleepers = new Set<Sleeper>()

  const settle = async () => {
    for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve))
  }
  const nextBefore = (end: number) =>
    [...sleepers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0]

  return {
    now: () => new Date(offset + elapsed),
    hrtime: () => BigInt(Math.round(elapsed * 1e6)),
    waiting: () => sleepers.size,
    setWallClock: (date) => {
      offset = date.getTime() - elapsed
    },
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal.aborted) {
          reject(signal.reason as Error)
          return
        }
        const onAbort = () => {
          sleepers.delete(sleeper)
          reject(signal.reason as Error)
        }
        const sleeper: Sleeper = {
          at: elapsed + Math.max(0, ms),
          wake: () => {
            sleepers.delete(sleeper)
            signal.removeEventListener('abort', onAbort)
            resolve()
          },
        }
        signal.addEventListener('abort', onAbort, { once: true })
        sleepers.add(sleeper)
      }),
    async advance(ms) {
      const end = elapsed + ms
      await settle()
      for (let next = nextBefore(end); next; next = nextBefore(end)) {
        elapsed = Math.max(elapsed, next.at)
        next.wake()
        await settle()
      }
      elapsed = end
      await settle()
    },
  }
}

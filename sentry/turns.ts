import type { Clock } from '../platform/clock.js'

/** How long work may hold the event loop before others get their turn, in nanoseconds. */
const TURN_NS = 8_000_000n

/** Long work takes turns with everything else that this process does. */
export interface Turns {
  /** Resolves at once while the turn lasts, and else when the next one begins. */
  take(): Promise<void> | undefined
}

export function turns(clock: Pick<Clock, 'hrtime'>): Turns {
  let ends = clock.hrtime() + TURN_NS
  return {
    take() {
      if (clock.hrtime() < ends) return undefined
      return new Promise((resolve) => {
        setImmediate(() => {
          ends = clock.hrtime() + TURN_NS
          resolve()
        })
      })
    },
  }
}

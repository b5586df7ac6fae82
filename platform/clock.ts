/** The only way the rest of the code learns the time or waits for it. */
export interface Clock {
  now(): Date
  /** Monotonic nanoseconds, for durations. */
  hrtime(): bigint
  /** Resolves after `ms`, or rejects with the signal's reason as soon as it aborts. */
  sleep(ms: number, signal: AbortSignal): Promise<void>
}

/** Node fires a timer above 2^31-1 ms at once, so longer waits are made of several. */
const MAX_TIMER_MS = 2 ** 31 - 1

export const systemClock: Clock = {
  now: () => new Date(),
  hrtime: () => process.hrtime.bigint(),
  async sleep(ms, signal) {
    for (let left = Math.max(0, ms); ; left -= MAX_TIMER_MS) {
      await timer(Math.min(left, MAX_TIMER_MS), signal)
      // Written so that a time that is not a number ends too.
      if (!(left > MAX_TIMER_MS)) return
    }
  },
}

function timer(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason as Error)
      return
    }
    const onAbort = () => {
      clearTimeout(handle)
      reject(signal.reason as Error)
    }
    const handle = setTimeout(() => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    }, ms)
    signal.addEventListener('abort', onAbort, { once: true })
  })
}

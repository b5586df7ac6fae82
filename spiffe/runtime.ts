/** What this library needs to know of time. The system clock of a larger program fits as it is. */
export interface RuntimeClock {
  now(): Date
  /** Resolves after `ms`, or rejects with the signal's reason as soon as it aborts. */
  sleep(ms: number, signal: AbortSignal): Promise<void>
}

/** Everything this library takes from the machine, in one place, so that a test can replace it. */
export interface Runtime {
  readonly clock: RuntimeClock
  readonly random: {
    /** Uniform in [0, 1). */
    fraction(): number
  }
  readonly environment: Readonly<Record<string, string | undefined>>
}

/** Node fires a timer above 2^31-1 ms at once, so a longer wait is made of several. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** The runtime of the process itself: its clock, its chance and its environment. */
export const nodeRuntime: Runtime = {
  clock: {
    now: () => new Date(),
    async sleep(ms, signal) {
      for (let left = ms; ; left -= MAX_TIMER_MS) {
        await timer(Math.min(left, MAX_TIMER_MS), signal)
        // Written so that a time that is not a number ends too.
        if (!(left > MAX_TIMER_MS)) return
      }
    },
  },
  random: { fraction: () => Math.random() },
  get environment() {
    return process.env
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

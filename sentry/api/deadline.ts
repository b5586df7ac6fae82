import type { Clock } from '../../platform/clock.js'

/** Settles as `work` does, or rejects with `late` when that takes too long or with the signal's reason. */
export async function within<T>(
  options: {
    readonly clock: Clock
    readonly ms: number
    readonly signal: AbortSignal
    readonly late: () => Error
  },
  work: Promise<T>,
): Promise<T> {
  const { clock, ms, signal, late } = options
  const done = new AbortController()
  const stopped = AbortSignal.any([signal, done.signal])
  const alarm = clock.sleep(ms, stopped).then(() => {
    throw late()
  })
  try {
    return await Promise.race([work, alarm])
  } finally {
    done.abort()
    alarm.catch(() => undefined)
    work.catch(() => undefined)
  }
}

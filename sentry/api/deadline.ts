import type { Clock } from '../../platform/clock.js'

/** Calls the listener when the signal aborts, or at once. Returns the way to stop, for signals that outlive the listener. */
export function onAbort(signal: AbortSignal, listener: () => void): () => void {
  if (signal.aborted) listener()
  signal.addEventListener('abort', listener, { once: true })
  return () => signal.removeEventListener('abort', listener)
}

/** Settles as `work` does, or rejects with `late` when that takes too long, or with the reason of a signal. */
export async function within<T>(
  options: {
    readonly clock: Clock
    readonly ms: number
    readonly signals: readonly AbortSignal[]
    readonly late: () => Error
  },
  work: Promise<T>,
): Promise<T> {
  const { clock, ms, signals, late } = options
  const over = new AbortController()
  const stops = signals.map((signal) => onAbort(signal, () => over.abort(signal.reason)))
  const alarm = clock.sleep(ms, over.signal).then(() => {
    throw late()
  })
  try {
    return await Promise.race([work, alarm])
  } finally {
    for (const stop of stops) stop()
    over.abort()
    alarm.catch(() => undefined)
    work.catch(() => undefined)
  }
}

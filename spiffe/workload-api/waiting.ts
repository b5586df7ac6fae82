import type { RuntimeClock } from '../runtime.js'

export interface DeadlineOptions {
  readonly clock: RuntimeClock
  readonly ms: number
  readonly signal: AbortSignal | undefined
  /** What the wait ends with when time is up; asked for only then. */
  readonly expired: () => Error
}

/** Waits for the promise or until `signal` aborts, whichever is first. The work itself goes on. */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error)
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}

/** Does the work within a time: its signal aborts when time is up or the outer signal does. */
export async function withDeadline<T>(
  { clock, ms, signal, expired }: DeadlineOptions,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const inner = new AbortController()
  const finished = new AbortController()
  const onAbort = () => inner.abort(signal?.reason)
  if (signal?.aborted) onAbort()
  signal?.addEventListener('abort', onAbort, { once: true })
  clock.sleep(ms, finished.signal).then(
    () => inner.abort(expired()),
    () => undefined,
  )
  try {
    return await abortable(work(inner.signal), inner.signal)
  } finally {
    signal?.removeEventListener('abort', onAbort)
    finished.abort()
  }
}

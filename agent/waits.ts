import { setMaxListeners } from 'node:events'
import type { Clock } from '../platform/clock.js'

/** A wait that can be cut short. A ring while nobody waits is kept: the next wait ends at once. */
export interface Alarm {
  ring(): void
  /** Rejects with the signal's reason as soon as it aborts. */
  wait(ms: number, signal: AbortSignal): Promise<void>
}

/** The wall clock may be set, and a machine may sleep, so nobody waits for longer without looking again. */
const MAX_WAIT_MS = 30_000
/** Whoever asks to be woken at once, again and again, leaves room for others. */
const MIN_WAIT_MS = 1

/** For one waiter at a time. */
export function alarmOn(clock: Clock): Alarm {
  let rung = false
  let endWait = () => {}
  return {
    ring() {
      rung = true
      endWait()
    },
    async wait(ms, signal) {
      signal.throwIfAborted()
      const limit = childOf(signal)
      endWait = () => limit.controller.abort()
      if (!rung) {
        const bounded = Math.max(MIN_WAIT_MS, Math.min(ms, MAX_WAIT_MS))
        await clock.sleep(bounded, limit.signal).catch(() => undefined)
      }
      endWait = () => {}
      limit[Symbol.dispose]()
      rung = false
      signal.throwIfAborted()
    },
  }
}

export interface TimeLimit {
  readonly clock: Clock
  readonly ms: number
  readonly signal: AbortSignal
  /** What is thrown when the time is over. */
  readonly expired: () => Error
}

/** Gives `work` a signal that ends when the time is over or `signal` aborts, and does not wait for it then. */
export async function within<Result>(
  { clock, ms, signal, expired }: TimeLimit,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  signal.throwIfAborted()
  const limit = childOf(signal)
  const timeout = clock.sleep(ms, limit.signal).then(() => {
    throw expired()
  })
  const working = work(limit.signal)
  try {
    return await Promise.race([working, timeout])
  } finally {
    limit.controller.abort()
    limit[Symbol.dispose]()
    working.catch(() => undefined)
    timeout.catch(() => undefined)
  }
}

/** Waits for `work`, but no longer than until `signal` aborts: then it rejects with the signal's reason. */
export async function orAborted<Result>(
  work: Promise<Result>,
  signal: AbortSignal,
): Promise<Result> {
  signal.throwIfAborted()
  let onAbort = () => {}
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason as Error)
    signal.addEventListener('abort', onAbort, { once: true })
  })
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

/** A controller for what lasts: any number may wait on it at a time, and Node does not take that for a leak. */
export function lifetime(): AbortController {
  const controller = new AbortController()
  setMaxListeners(0, controller.signal)
  return controller
}

/** A controller that aborts with `signal` too, until it is let go. */
export function childOf(
  signal: AbortSignal,
): Disposable & { readonly controller: AbortController; readonly signal: AbortSignal } {
  const controller = new AbortController()
  const onAbort = () => controller.abort(signal.reason)
  if (signal.aborted) onAbort()
  else signal.addEventListener('abort', onAbort, { once: true })
  return {
    controller,
    signal: controller.signal,
    [Symbol.dispose]: () => signal.removeEventListener('abort', onAbort),
  }
}

/** Calls `act` when `signal` aborts, at once if it has, until it is let go. */
export function onAbort(signal: AbortSignal, act: () => void): Disposable {
  if (signal.aborted) act()
  else signal.addEventListener('abort', act, { once: true })
  return { [Symbol.dispose]: () => signal.removeEventListener('abort', act) }
}

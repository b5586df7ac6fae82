import type { Clock } from '../platform/clock.js'

/** Something that must come on before a moment passes. */
export interface Timed {
  /** In the time of {@link Deadlines.now}; `Infinity` for no deadline. */
  readonly deadline: number
  onDeadline(): void
}

/** One sweep for all connections: moving a deadline costs an assignment, and no timer. */
export interface Deadlines extends AsyncDisposable {
  /** Milliseconds since the start, as of the last sweep. */
  readonly now: number
  add(timed: Timed): void
  remove(timed: Timed): void
}

/** How late a deadline may be noticed. */
const SWEEP_MS = 250

export function startDeadlines(clock: Clock): Deadlines {
  const all = new Set<Timed>()
  const stop = new AbortController()
  const started = clock.hrtime()
  let now = 0

  const sweep = async () => {
    while (!stop.signal.aborted) {
      await clock.sleep(SWEEP_MS, stop.signal)
      now = Number((clock.hrtime() - started) / 1_000_000n)
      for (const timed of all) if (timed.deadline <= now) timed.onDeadline()
    }
  }
  const sweeping = sweep().catch((error: unknown) => {
    if (!stop.signal.aborted) throw error
  })
  return {
    get now() {
      return now
    },
    add: (timed) => void all.add(timed),
    remove: (timed) => void all.delete(timed),
    async [Symbol.asyncDispose]() {
      stop.abort()
      await sweeping
    },
  }
}

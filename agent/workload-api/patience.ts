import type { Clock } from '../../platform/clock.js'

/** One wait, bounded in time, for things that may come one after the other. */
export interface Patience extends Disposable {
  /** Waits until all is there, something has failed, time is up or `changed` aborts. */
  wait(missing: readonly Wanted[], changed: AbortSignal): Promise<void>
  /** Whether what is there has to do now. */
  lost(): boolean
}

/** Asks for one thing and waits for it. */
export type Wanted = (signal: AbortSignal) => Promise<unknown>

export interface PatienceOptions {
  readonly clock: Clock
  readonly patienceMs: number
  /** Nobody waits any more once this aborts. */
  readonly over: AbortSignal
}

const DONE = new Error('nobody waits any more')

export function patience({ clock, patienceMs, over }: PatienceOptions): Patience {
  const done = new AbortController()
  const signal = AbortSignal.any([over, done.signal])
  const late = clock.sleep(patienceMs, signal).then(
    () => 'late',
    () => 'over',
  )
  let lost = false
  return {
    lost: () => lost,
    async wait(missing, changed) {
      const heard = AbortSignal.any([signal, changed])
      const answers = Promise.allSettled(missing.map((ask) => ask(heard)))
      const answered = answers.then(() => (changed.aborted ? 'changed' : 'answered'))
      lost = (await Promise.race([answered, late])) !== 'changed'
    },
    [Symbol.dispose]: () => done.abort(DONE),
  }
}

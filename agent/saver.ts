import { exponentialBackoff } from '../platform/backoff.js'
import type { Clock } from '../platform/clock.js'
import type { Log } from '../platform/log.js'
import type { Random } from '../platform/random.js'
import type { SealedFile } from '../platform/sealer.js'
import { alarmOn } from './waits.js'

/** Writes the state as it is at the moment of writing; one write at a time. */
export interface Saver {
  /** Resolves when the state is on disk. Throws `CS_FILE_UNWRITABLE`. */
  now(): Promise<void>
  /** Has it written shortly, together with what else changes. */
  soon(): void
  /** Writes what is asked for soon until `signal` aborts, and then what is left. */
  run(signal: AbortSignal): Promise<void>
}

/** SVIDs come one after the other and each is a change, so writing waits for company. */
const SETTLE_MS = 250
/** A large state is written more seldom: no more than one part in twenty of the time goes into it. */
const REST_PER_WORK = 19
const RETRY = { firstMs: 2_000, maxMs: 60_000 }

export function stateSaver(options: {
  readonly file: SealedFile
  readonly state: () => Uint8Array
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}): Saver {
  const { file, state, clock, log } = options
  const alarm = alarmOn(clock)
  const retry = exponentialBackoff({ ...RETRY, random: options.random })
  let dirty = false
  let tookMs = 0
  let last: Promise<void> = Promise.resolve()

  const now = () => {
    const write = async () => {
      dirty = false
      const start = clock.hrtime()
      try {
        await file.write(state())
        tookMs = Number(clock.hrtime() - start) / 1e6
      } catch (error) {
        soon()
        throw error
      }
    }
    last = last.catch(() => undefined).then(write)
    return last
  }
  const soon = () => {
    dirty = true
    alarm.ring()
  }
  return {
    now,
    soon,
    async run(signal) {
      while (!signal.aborted) {
        if (!dirty) await alarm.wait(Number.POSITIVE_INFINITY, signal).catch(() => undefined)
        if (dirty) await saveAfter(Math.max(SETTLE_MS, tookMs * REST_PER_WORK), signal)
      }
      if (dirty) await attempt()
    },
  }

  async function saveAfter(ms: number, signal: AbortSignal): Promise<void> {
    await clock.sleep(ms, signal).catch(() => undefined)
    if (signal.aborted || (await attempt())) return
    await clock.sleep(retry.nextMs(), signal).catch(() => undefined)
  }

  async function attempt(): Promise<boolean> {
    try {
      await now()
      retry.reset()
      return true
    } catch (error) {
      const { message } = error as Error
      log.error({ code: codeOf(error), reason: message }, 'state of the agent could not be written')
      return false
    }
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}

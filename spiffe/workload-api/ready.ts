import { SpiffeError } from '../errors.js'
import type { RuntimeClock } from '../runtime.js'
import { withDeadline } from './waiting.js'

export interface ReadyOptions {
  /** What is waited for, in the words of the error. */
  readonly what: string
  readonly clock: RuntimeClock
  readonly readyTimeoutMs?: number
  readonly signal?: AbortSignal
  readonly watching: Promise<void>
  isReady(): boolean
  onChange(listener: () => void): () => void
  lastError(): SpiffeError | undefined
}

const READY_TIMEOUT_MS = 30_000

/**
 * Waits until a source has something to use. When time is up it throws the last thing that went
 * wrong, because the missing socket or identity is what its caller has to mend.
 */
export async function whenReady(options: ReadyOptions): Promise<void> {
  const { what, clock, signal, lastError, readyTimeoutMs: ms = READY_TIMEOUT_MS } = options
  const expired = () => {
    const cause = lastError()
    const why = cause?.message ?? 'the endpoint does not answer'
    return new SpiffeError(
      cause?.code ?? 'CS_ENDPOINT_UNAVAILABLE',
      `no ${what} within ${ms} ms: ${why}`,
      { cause },
    )
  }
  await withDeadline({ clock, ms, signal, expired }, () =>
    Promise.race([firstGood(options), options.watching]),
  )
}

/** A refusal by the endpoint was logged and the rest stays in force; anything else is a fault in a callback. */
export function surfaceFaults(watching: Promise<void>): void {
  watching.catch((error: unknown) => {
    if (error instanceof SpiffeError) return
    queueMicrotask(() => {
      throw error
    })
  })
}

function firstGood({ isReady, onChange }: ReadyOptions): Promise<void> {
  return new Promise((resolve) => {
    if (isReady()) resolve()
    const stop = onChange(() => {
      if (!isReady()) return
      stop()
      resolve()
    })
  })
}

import type { SpiffeError } from '../../spiffe/index.js'
import type { WatchListener } from '../../spiffe/workload-api/index.js'

/** Keeps what a watch reported, in its order, and lets a test wait for more. */
export interface RecordingListener<Value> extends WatchListener<Value> {
  readonly updates: readonly Value[]
  readonly withdrawals: readonly SpiffeError[]
  readonly errors: readonly SpiffeError[]
  /** Resolves as soon as the condition holds after some event. */
  until(condition: (listener: RecordingListener<Value>) => boolean): Promise<void>
}

export function recordingListener<Value>(): RecordingListener<Value> {
  const updates: Value[] = []
  const withdrawals: SpiffeError[] = []
  const errors: SpiffeError[] = []
  const waiting = new Set<() => void>()
  const wake = () => {
    for (const check of waiting) check()
  }
  const listener: RecordingListener<Value> = {
    updates,
    withdrawals,
    errors,
    onUpdate(value) {
      updates.push(value)
      wake()
    },
    onWithdrawn(error) {
      withdrawals.push(error)
      wake()
    },
    onError(error) {
      errors.push(error)
      wake()
    },
    until: (condition) =>
      new Promise((resolve) => {
        const check = () => {
          if (!condition(listener)) return
          waiting.delete(check)
          resolve()
        }
        waiting.add(check)
        check()
      }),
  }
  return listener
}

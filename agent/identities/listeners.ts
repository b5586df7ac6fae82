/** Adds a listener and returns the way to take it away again. */
export type Listen = (listener: () => void) => () => void

export interface ChangeListeners {
  readonly listen: Listen
  notify(): void
}

/**
 * The same function may listen twice; each is taken away by itself. What a listener throws goes to
 * `onError` and keeps no other from being told.
 */
export function changeListeners(onError: (error: unknown) => void): ChangeListeners {
  const listeners = new Set<{ readonly listener: () => void }>()
  return {
    listen(listener) {
      const entry = { listener }
      listeners.add(entry)
      return () => {
        listeners.delete(entry)
      }
    },
    notify() {
      for (const { listener } of Array.from(listeners)) {
        try {
          listener()
        } catch (error) {
          onError(error)
        }
      }
    },
  }
}

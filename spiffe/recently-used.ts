/** A map that forgets what was not asked for the longest once it holds more than its limit. */
export interface RecentlyUsed<Value> {
  readonly size: number
  get(key: string): Value | undefined
  set(key: string, value: Value): void
  delete(key: string): void
}

export function recentlyUsed<Value>(limit: number): RecentlyUsed<Value> {
  const held = new Map<string, Value>()
  return {
    get size() {
      return held.size
    },
    get(key) {
      const value = held.get(key)
      if (value === undefined) return undefined
      held.delete(key)
      held.set(key, value)
      return value
    },
    set(key, value) {
      held.delete(key)
      held.set(key, value)
      for (const oldest of held.keys()) {
        if (held.size <= limit) return
        held.delete(oldest)
      }
    },
    delete: (key) => {
      held.delete(key)
    },
  }
}

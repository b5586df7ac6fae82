/** Those who want to know of changes. */
export interface Listeners {
  /** Returns how to stop listening. */
  add(listener: () => void): () => void
  tell(): void
  clear(): void
}

/** One listener that throws keeps no other from being told; its error surfaces as an uncaught one. */
export function listeners(): Listeners {
  const all = new Set<{ readonly tell: () => void }>()
  return {
    add(listener) {
      const entry = { tell: listener }
      all.add(entry)
      return () => void all.delete(entry)
    },
    tell() {
      // Whoever is added meanwhile is told of the next change.
      for (const tellOne of Array.from(all, ({ tell }) => tell)) callSafely(tellOne)
    },
    clear: () => all.clear(),
  }
}

function callSafely(listener: () => void): void {
  try {
    listener()
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}

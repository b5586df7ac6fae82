/** The lines of the sidecars' access logs, by the decision that each tells of. */
export interface AccessLog {
  add(line: string): void
  /** Waits for the line of a decision; undefined when it does not come. */
  find(
    matches: (entry: AccessEntry) => boolean,
    signal: AbortSignal,
  ): Promise<AccessEntry | undefined>
}

export interface AccessEntry {
  readonly decision_id?: string
  readonly decision?: string
  readonly reason?: string
  readonly policy?: string
  readonly rule?: string
  readonly caller?: string
  readonly method?: string
  readonly path?: string
  readonly status?: number
}

const KEPT = 1000

export function accessLog(): AccessLog {
  const entries: AccessEntry[] = []
  const waiting = new Set<() => void>()
  return {
    add(line) {
      const entry = parse(line)
      if (!entry) return
      entries.push(entry)
      if (entries.length > KEPT) entries.shift()
      for (const look of waiting) look()
    },
    find: (matches, signal) =>
      new Promise((resolve) => {
        const end = (entry: AccessEntry | undefined) => {
          waiting.delete(look)
          signal.removeEventListener('abort', giveUp)
          resolve(entry)
        }
        const look = () => {
          const entry = entries.findLast(matches)
          if (entry) end(entry)
        }
        const giveUp = () => end(undefined)
        signal.addEventListener('abort', giveUp, { once: true })
        waiting.add(look)
        look()
        if (signal.aborted) giveUp()
      }),
  }
}

function parse(line: string): AccessEntry | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null && 'decision_id' in value
      ? (value as AccessEntry)
      : undefined
  } catch {
    return undefined
  }
}

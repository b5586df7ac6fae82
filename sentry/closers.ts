/** What has to be closed again, in reverse order. */
export interface Closers {
  defer(close: () => void | Promise<void>): void
  /** Closes everything once; what fails does not keep the rest open. Rejects with the first failure. */
  close(): Promise<void>
}

export function closers(): Closers {
  const open: (() => void | Promise<void>)[] = []
  let closing: Promise<void> | undefined
  return {
    defer: (close) => void open.push(close),
    close() {
      closing ??= closeAll(open)
      return closing
    },
  }
}

async function closeAll(open: (() => void | Promise<void>)[]): Promise<void> {
  const failures: unknown[] = []
  for (let close = open.pop(); close; close = open.pop()) {
    try {
      await close()
    } catch (error) {
      failures.push(error)
    }
  }
  if (failures.length > 0) throw failures[0]
}

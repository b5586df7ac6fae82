import type { X509Svid } from '../../spiffe/index.js'

/** Who waits for the SVID of which entry. */
export interface Waiters {
  /** Rejects with the signal's reason as soon as it aborts. */
  wait(entryId: string, signal: AbortSignal): Promise<X509Svid>
  has(entryId: string): boolean
  ids(): readonly string[]
  give(entryId: string, svid: X509Svid): void
  fail(entryId: string, error: Error): void
}

interface Waiter {
  readonly give: (svid: X509Svid) => void
  readonly fail: (error: Error) => void
}

export function waiters(): Waiters {
  const byEntry = new Map<string, Set<Waiter>>()
  const take = (entryId: string) => {
    const waiting = byEntry.get(entryId) ?? new Set()
    byEntry.delete(entryId)
    return waiting
  }
  return {
    wait(entryId, signal) {
      return new Promise((resolve, reject) => {
        const settle = () => {
          signal.removeEventListener('abort', onAbort)
          const others = byEntry.get(entryId)
          others?.delete(waiter)
          if (others?.size === 0) byEntry.delete(entryId)
        }
        const waiter: Waiter = {
          give(svid) {
            settle()
            resolve(svid)
          },
          fail(error) {
            settle()
            reject(error)
          },
        }
        const onAbort = () => waiter.fail(signal.reason as Error)
        signal.addEventListener('abort', onAbort, { once: true })
        byEntry.set(entryId, (byEntry.get(entryId) ?? new Set()).add(waiter))
      })
    },
    has: (entryId) => byEntry.has(entryId),
    ids: () => [...byEntry.keys()],
    give(entryId, svid) {
      for (const waiter of take(entryId)) waiter.give(svid)
    },
    fail(entryId, error) {
      for (const waiter of take(entryId)) waiter.fail(error)
    },
  }
}

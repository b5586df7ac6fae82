import { isDeepStrictEqual } from 'node:util'
import type { SnapshotReport } from '../../proto/gen/countersign/policy/v1/policy.js'
import { changeListeners, type Listen } from './listeners.js'

/** What the sidecars of this machine say they enforce, on its way to the sentry. */
export interface Reports {
  all(): readonly SnapshotReport[]
  report(report: SnapshotReport): void
  forget(target: string, instance: string): void
  /** Called once for all reports that come in the same turn, if they say anything new. */
  readonly onReport: Listen
}

export function snapshotReports(onError: (error: unknown) => void): Reports {
  const byProxy = new Map<string, SnapshotReport>()
  const listeners = changeListeners(onError)
  let announced = false
  const announce = () => {
    if (announced) return
    announced = true
    queueMicrotask(() => {
      announced = false
      listeners.notify()
    })
  }
  return {
    all: () => [...byProxy.values()],
    report(report) {
      const key = keyOf(report.target, report.instance)
      if (isDeepStrictEqual(byProxy.get(key), report)) return
      byProxy.set(key, report)
      announce()
    },
    forget(target, instance) {
      if (byProxy.delete(keyOf(target, instance))) announce()
    },
    onReport: listeners.listen,
  }
}

function keyOf(target: string, instance: string): string {
  return JSON.stringify([target, instance])
}

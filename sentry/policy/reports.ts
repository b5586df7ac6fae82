import type { Clock } from '../../platform/clock.js'
import type { SnapshotReport } from '../../proto/gen/countersign/policy/v1/policy.js'
import type { SpiffeId } from '../../spiffe/index.js'

/** What a proxy says it enforces, and through which agent. */
export interface ProxyReport {
  readonly report: SnapshotReport
  readonly agent: SpiffeId
  /** Milliseconds since 1970. */
  readonly reportedAt: number
  /** Whether the agent follows this sentry now. */
  readonly connected: boolean
}

/** What agents report of their proxies, in memory: after a restart they report again. */
export interface ReportBook {
  /** An agent follows. What it reports replaces what it reported before, until it leaves. */
  enter(agent: SpiffeId): Reporter
  all(): readonly ProxyReport[]
  /** Forgets agents that left before `at`, in milliseconds since 1970, or are gone for good. */
  forget(options: {
    readonly leftBefore: number
    readonly gone: (agent: SpiffeId) => boolean
  }): void
  onChange(listener: () => void): () => void
}

export interface Reporter {
  report(reports: readonly SnapshotReport[]): void
  leave(): void
}

interface Reports {
  readonly of: ReadonlyMap<string, { readonly report: SnapshotReport; readonly at: number }>
  readonly connections: number
  readonly leftAt: number
}

/** One agent has a handful of proxies; more is a defect or an attack. */
const MAX_REPORTS = 1000

export function reportBook(clock: Clock): ReportBook {
  const held = new Map<SpiffeId, Reports>()
  const listeners = new Set<() => void>()
  const nothing: Reports = { of: new Map(), connections: 0, leftAt: 0 }
  const set = (agent: SpiffeId, change: (reports: Reports) => Reports) => {
    held.set(agent, change(held.get(agent) ?? nothing))
    for (const listener of listeners) listener()
  }
  return {
    enter(agent) {
      let left = false
      set(agent, (reports) => ({ ...reports, connections: reports.connections + 1 }))
      return {
        report(reports) {
          const at = clock.now().getTime()
          const named = reports
            .slice(0, MAX_REPORTS)
            .map((report) => [`${report.target} ${report.instance}`, { report, at }] as const)
          set(agent, (before) => ({ ...before, of: new Map(named) }))
        },
        leave() {
          if (left) return
          left = true
          const leftAt = clock.now().getTime()
          set(agent, (reports) => ({ ...reports, connections: reports.connections - 1, leftAt }))
        },
      }
    },
    all: () =>
      [...held].flatMap(([agent, { of, connections }]) =>
        Array.from(of.values(), ({ report, at }) => ({
          report,
          agent,
          reportedAt: at,
          connected: connections > 0,
        })),
      ),
    forget({ leftBefore, gone }) {
      const stale = [...held].filter(
        ([agent, { connections, leftAt }]) =>
          connections === 0 && (leftAt < leftBefore || gone(agent)),
      )
      for (const [agent] of stale) held.delete(agent)
      if (stale.length > 0) for (const listener of listeners) listener()
    },
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
  }
}

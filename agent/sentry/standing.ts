import type { Clock } from '../../platform/clock.js'
import type { Log } from '../../platform/log.js'
import type { AgentProblem } from '../identities/identities.js'
import { inWords } from './peer.js'

/** How the agent stands with its sentry, for status, log and metrics. Times are milliseconds since 1970. */
export interface Standing {
  /** In step since the last connection. */
  connected(): boolean
  lastSyncAt(): number | undefined
  problem(): AgentProblem | undefined
  /** The agent has everything the sentry has to tell. */
  synced(): void
  /** Says in status and log what is wrong, in the log once for each thing that is. */
  report(error: Error): void
  /** Compares our clock with the sentry's. */
  serverTime(time: number): void
}

/** Beyond this a new SVID, which is dated back by 10 s, may not be valid here yet. */
const MAX_SKEW_MS = 30_000

export function sentryStanding(options: {
  readonly clock: Clock
  readonly log: Log
  readonly onChange: () => void
}): Standing {
  const { clock, log, onChange } = options
  let inStep = false
  let syncedAt: number | undefined
  let trouble: AgentProblem | undefined
  let skew: AgentProblem | undefined

  return {
    connected: () => inStep,
    lastSyncAt: () => syncedAt,
    problem: () => trouble ?? skew,
    synced() {
      const news = !inStep || trouble !== undefined
      inStep = true
      trouble = undefined
      syncedAt = clock.now().getTime()
      if (news) log.info({}, 'in step with the sentry')
      if (news) onChange()
    },
    report(error) {
      const problem = problemOf(error)
      const news = trouble?.code !== problem.code || trouble.message !== problem.message
      inStep = false
      trouble = problem
      if (news)
        log.warn({ code: problem.code, reason: problem.message }, 'not in step with the sentry')
      if (news) onChange()
    },
    serverTime(time) {
      const ahead = clock.now().getTime() - time
      const before = skew
      skew = Math.abs(ahead) > MAX_SKEW_MS ? skewProblem(ahead) : undefined
      if (skew && !before) log.warn({ code: skew.code, reason: skew.message }, 'clocks differ')
      if ((skew === undefined) !== (before === undefined)) onChange()
    },
  }
}

function skewProblem(ahead: number): AgentProblem {
  const direction = ahead > 0 ? 'ahead of' : 'behind'
  return {
    code: 'CS_CLOCK_SKEWED',
    message: `this clock is ${inWords(ahead)} ${direction} the sentry's`,
  }
}

function problemOf(error: Error): AgentProblem {
  const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
  return { code: code.startsWith('CS_') ? code : 'CS_SENTRY_UNAVAILABLE', message: error.message }
}

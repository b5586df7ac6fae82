import type { Readiness } from '../platform/admin-http.js'
import type { Clock } from '../platform/clock.js'
import { AgentError, type AgentErrorCode } from './errors.js'
import type { AgentProblem } from './identities/identities.js'
import type { Parts } from './parts.js'
import { hasExpired } from './sentry/own-identity.js'
import { onAbort } from './waits.js'

/** Ready is an agent that has an SVID of its own and knows what its workloads may hold. */
export function readinessOf({ identities, store, session }: Parts, now: number): Readiness {
  const own = store.current()
  const usable = own !== undefined && !hasExpired(own, now)
  if (usable && identities.ready()) return { ready: true, reasons: [] }
  return notReady(
    session.standing.problem() ?? { code: 'CS_IDENTITIES_NOT_READY', message: 'not attested yet' },
  )
}

export function notReady({ code, message }: AgentProblem): Readiness {
  return { ready: false, reasons: [`${code}: ${message}`] }
}

/** What no waiting mends: an agent that meets one of these before it is ready will not become so. */
const hopeless: ReadonlySet<string> = new Set([
  'CS_ATTESTATION_REJECTED',
  'CS_EVIDENCE_MISSING',
  'CS_BANNED_BY_SENTRY',
  'CS_OWN_SVID_EXPIRED',
] satisfies AgentErrorCode[])

/** Resolves when the agent is ready; rejects with the signal's reason, or with what no waiting mends. */
export function whenReady(parts: Parts, clock: Clock, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    let stop = () => {}
    const settle = (finish: () => void) => {
      stop()
      aborted[Symbol.dispose]()
      finish()
    }
    const look = () => {
      if (readinessOf(parts, clock.now().getTime()).ready) return settle(resolve)
      const problem = parts.session.standing.problem()
      if (problem && isHopeless(problem.code)) {
        settle(() => reject(new AgentError(problem.code as AgentErrorCode, problem.message)))
      }
    }
    signal.throwIfAborted()
    const aborted = onAbort(signal, () => settle(() => reject(signal.reason as Error)))
    stop = parts.onProgress(look)
    look()
  })
}

function isHopeless(code: string): boolean {
  return hopeless.has(code)
}

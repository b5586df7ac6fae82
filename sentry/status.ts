import type { Readiness } from '../platform/admin-http.js'
import type { TrustDomain } from '../spiffe/index.js'
import { codeOf } from './api/reply.js'
import { agentTable } from './attestation/agent-record.js'
import type { AuthoritiesStatus } from './authorities/status.js'
import { bundleTable } from './bundles/bundle-record.js'
import type { Housekeeping } from './housekeeping.js'
import type { Parts } from './parts.js'
import { policyTable } from './policy/policy-record.js'
import { entryTable } from './registration/entry.js'
import type { SentryState } from './state.js'

/** Times are milliseconds since 1970. */
export interface SentryStatus {
  readonly trustDomain: TrustDomain
  readonly sequence: number
  readonly entries: number
  readonly agents: number
  readonly bundles: number
  readonly policies: number
  /** Agents that are told of changes at once. */
  readonly following: number
  readonly connections: number
  readonly authorities: AuthoritiesStatus
  readonly serverIdentityExpiresAt: number
}

/** Clocks of one machine may be corrected by this much without a word. */
const CLOCK_TOLERANCE_MS = 5000

/** Whether the sentry can issue, and everything that is not as it should be. */
export function readinessOf(options: {
  readonly state: SentryState
  readonly house: Housekeeping
  readonly stopping: AbortSignal
  readonly recordedAt: number
  readonly now: number
}): Readiness {
  const { state, house, stopping, recordedAt, now } = options
  const fatal = [...(stopping.aborted ? ['CS_SHUTTING_DOWN'] : []), ...signerProblem(state)]
  const failure = state.datastore.failure()
  const behind = recordedAt - now
  const notices = [
    ...(failure ? [reason(failure.code, failure.message)] : []),
    ...(behind > CLOCK_TOLERANCE_MS
      ? [
          reason(
            'CS_CLOCK_WENT_BACK',
            `at least ${Math.ceil(behind / 1000)} s behind the last record`,
          ),
        ]
      : []),
    ...house.failures(),
  ]
  // A datastore that cannot be written keeps nobody from being issued to.
  return { ready: fatal.length === 0, reasons: [...fatal, ...notices] }
}

function signerProblem({ authorities }: SentryState): readonly string[] {
  try {
    authorities.x509Signer()
    return []
  } catch (error) {
    return [reason(codeOf(error), (error as Error).message)]
  }
}

function reason(code: string, detail: string): string {
  return `${code}: ${detail}`
}

export function statusOf(options: {
  readonly state: SentryState
  readonly parts: Parts
  readonly trustDomain: TrustDomain
  readonly connections: number
}): SentryStatus {
  const { state, parts, trustDomain, connections } = options
  const { datastore, authorities } = state
  return {
    trustDomain,
    sequence: datastore.sequence,
    entries: datastore.view(entryTable).size,
    agents: datastore.view(agentTable).size,
    bundles: datastore.view(bundleTable).size,
    policies: datastore.view(policyTable).size,
    following: parts.hub.size,
    connections,
    authorities: authorities.status(),
    serverIdentityExpiresAt: parts.serverIdentity.current().chain[0].notAfter,
  }
}

import { agentReasons } from '../agent/errors.js'
import { platformReasons } from '../platform/errors.js'
import { decisionReasons, policyReasons } from '../policies/index.js'
import { sentryReasons } from '../sentry/errors.js'
import { sidecarReasons } from '../sidecar/errors.js'
import { failureReasons } from '../sidecar/failures.js'
import type { Reason } from '../spiffe/index.js'
import { spiffeReasons } from '../spiffe/index.js'
import { findingReasons } from './doctor/check.js'
import { cliReasons } from './errors.js'

/** One room's part of the registry. */
export interface ReasonRoom {
  readonly room: string
  readonly reasons: Readonly<Record<string, Reason>>
}

/** The registry of reason codes: every code has one home, and this is the list of homes. */
export const reasonRooms: readonly ReasonRoom[] = [
  { room: 'SPIFFE library', reasons: spiffeReasons },
  { room: 'sentry', reasons: sentryReasons },
  { room: 'agent', reasons: agentReasons },
  { room: 'sidecar', reasons: sidecarReasons },
  { room: 'policies', reasons: policyReasons },
  { room: 'machine', reasons: platformReasons },
  { room: 'command line', reasons: cliReasons },
  { room: 'doctor', reasons: findingReasons },
]

/** Why a request was refused, or got no answer: words of one line of the access log, not errors. */
export const requestReasonRooms: readonly ReasonRoom[] = [
  { room: 'decisions', reasons: decisionReasons },
  { room: 'calls without an answer', reasons: failureReasons },
]

export function reasonFor(code: string): Reason | undefined {
  return reasonRooms.find(({ reasons }) => code in reasons)?.reasons[code]
}

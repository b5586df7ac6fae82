import { platformReasons } from '../platform/errors.js'
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
  { room: 'machine', reasons: platformReasons },
  { room: 'command line', reasons: cliReasons },
  { room: 'doctor', reasons: findingReasons },
]

export function reasonFor(code: string): Reason | undefined {
  return reasonRooms.find(({ reasons }) => code in reasons)?.reasons[code]
}

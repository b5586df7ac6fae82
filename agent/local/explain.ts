import type { X509Svid } from '../../spiffe/index.js'
import type { HeldEntry, Selector } from '../identities/identities.js'
import { expiryOf } from '../identities/renewal.js'

/** How one entry compares with what was seen of a process. */
export interface Candidate {
  readonly entry: HeldEntry
  /** Selectors of the entry that the process does not have; it gets the identity when there are none. */
  readonly missing: readonly Selector[]
  /** Milliseconds since 1970; undefined while no SVID is in hand. */
  readonly svidExpiresAt: number | undefined
}

export interface Explanation {
  /** Best first: those that match, then those that lack the fewest selectors. */
  readonly candidates: readonly Candidate[]
  /** Reason code; empty when the process has an identity. */
  readonly code: string
  readonly text: string
}

export interface ExplainOptions {
  readonly selectors: readonly Selector[]
  readonly entries: readonly HeldEntry[]
  readonly ready: boolean
  readonly svidOf: (entry: HeldEntry) => X509Svid | undefined
  readonly maxCandidates: number
  /** Leaves out entries that have nothing in common with the process. */
  readonly onlyRelated: boolean
}

/** Why a process does or does not get an identity. */
export function explainIdentity(options: ExplainOptions): Explanation {
  const { entries, maxCandidates, onlyRelated } = options
  const candidates = entries
    .map((entry) => compare(entry, options))
    .filter((candidate) => !onlyRelated || isRelated(candidate))
    .sort(byFit)
    .slice(0, maxCandidates)
  return { candidates, ...verdict(candidates, options) }
}

function compare(entry: HeldEntry, { selectors, svidOf }: ExplainOptions): Candidate {
  const missing = entry.selectors.filter(
    ({ type, value }) => !selectors.some((seen) => seen.type === type && seen.value === value),
  )
  const svid = svidOf(entry)
  return { entry, missing, svidExpiresAt: svid && expiryOf(svid) }
}

function isRelated({ entry, missing }: Candidate): boolean {
  return missing.length < entry.selectors.length
}

/** Array sorting is stable: what fits equally well stays in the order of the entries. */
function byFit(a: Candidate, b: Candidate): number {
  return a.missing.length - b.missing.length || b.entry.selectors.length - a.entry.selectors.length
}

function verdict(
  [best]: readonly Candidate[],
  { entries, ready }: ExplainOptions,
): Pick<Explanation, 'code' | 'text'> {
  if (!ready) {
    return { code: 'CS_IDENTITIES_NOT_READY', text: 'the agent has not heard from its sentry yet' }
  }
  if (!best || best.missing.length > 0) {
    return { code: 'CS_NO_IDENTITY', text: missText(best, entries.length) }
  }
  const { spiffeId } = best.entry
  if (best.svidExpiresAt === undefined) {
    return { code: 'CS_SENTRY_UNAVAILABLE', text: `is ${spiffeId}, but no SVID is in hand yet` }
  }
  return { code: '', text: `is ${spiffeId}` }
}

function missText(nearest: Candidate | undefined, considered: number): string {
  if (considered === 0) return 'the sentry has given this agent no registration entries'
  if (!nearest) return 'no registration entry has a selector in common with the process'
  const lacking = nearest.missing.map(({ type, value }) => `${type}:${value}`).join(', ')
  return `no entry matches; nearest is ${nearest.entry.spiffeId}, which also wants ${lacking}`
}

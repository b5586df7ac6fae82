import { type Held, type HeldSvid, isCurrent } from './held.js'
import type { HeldEntry } from './identities.js'

export interface DueQuestion {
  readonly now: number
  /** Until when an entry is not to be asked for; 0 for at once. */
  readonly blockedUntil: (entryId: string) => number
  /** Whether somebody waits for the entry's SVID. */
  readonly isWanted: (entryId: string) => boolean
}

export interface Due {
  /** The most urgent first: what is waited for, what is missing, what is oldest. */
  readonly due: readonly HeldEntry[]
  /** When to look again, if nothing happens before. */
  readonly next: number
}

/** Which entries need an SVID now, and when the next will. */
export function dueEntries(held: Held, question: DueQuestion): Due {
  const { now, blockedUntil } = question
  let next = Number.POSITIVE_INFINITY
  const due: { readonly entry: HeldEntry; readonly urgency: number }[] = []
  for (const entry of held.entries) {
    const svid = held.svids.get(entry.id)
    const moment = Math.max(momentOf(entry, svid, question), blockedUntil(entry.id))
    if (moment <= now) due.push({ entry, urgency: urgencyOf(entry, svid, question) })
    else next = Math.min(next, moment)
    if (svid) next = Math.min(next, svid.expiresAt)
  }
  due.sort((a, b) => a.urgency - b.urgency)
  return { due: due.map(({ entry }) => entry), next }
}

function momentOf(entry: HeldEntry, svid: HeldSvid | undefined, { isWanted }: DueQuestion): number {
  if (!svid) return entry.onDemand && !isWanted(entry.id) ? Number.POSITIVE_INFINITY : 0
  return isCurrent(svid, entry) ? svid.renewAt : 0
}

function urgencyOf(
  entry: HeldEntry,
  svid: HeldSvid | undefined,
  { isWanted }: DueQuestion,
): number {
  if (isWanted(entry.id)) return -2
  return svid ? svid.expiresAt : -1
}

import type { Clock } from '../../platform/clock.js'
import type { Log, LogFields } from '../../platform/log.js'
import type { Caller } from '../attestation/caller.js'
import { reasonOf } from './replies.js'

/** Whom a decision is about: the caller on a socket, as far as it is known. */
export interface Subject {
  /** None while a connection is accepted. */
  readonly rpc?: string
  readonly connection: { readonly caller: Caller; readonly path: string } | undefined
}

/** One line in the log for each decision about a caller; refusals are also counted. */
export interface Journal {
  granted(subject: Subject, what: LogFields, message: string): void
  /** What was granted has changed; only for who looks closely. */
  updated(subject: Subject, what: LogFields): void
  refused(subject: Subject, error: unknown, message?: string): void
}

export interface JournalOptions {
  readonly clock: Clock
  readonly log: Log
  /** Told the reason code of every refusal. */
  readonly onRefusal?: (code: string) => void
}

/** A user may cause so many lines at once, and as many as this per second for as long as it likes. */
const BURST = 500
const PER_SECOND = 20
/** Users whose lines are counted; what was written about others is forgotten. */
const MAX_USERS = 1024

export function journal({ clock, log, onRefusal = () => {} }: JournalOptions): Journal {
  const budgets = lineBudgets(clock)
  const write = (level: 'info' | 'warn', subject: Subject, line: LogFields, message: string) => {
    const who = whoOf(subject)
    const { allowed, leftOut } = budgets.spend(who.uid)
    if (!allowed) return
    if (leftOut > 0) log.warn({ uid: who.uid, lines: leftOut }, 'lines about a user left out')
    log[level]({ ...who, ...line }, message)
  }
  return {
    granted: (subject, what, message) => write('info', subject, what, message),
    updated: (subject, what) => log.debug({ ...whoOf(subject), ...what }, 'update sent'),
    refused(subject, error, message = 'call refused') {
      const reason = reasonOf(error)
      onRefusal(reason.code)
      write(subject.rpc === undefined ? 'warn' : 'info', subject, reason, message)
    },
  }
}

function whoOf({ rpc, connection }: Subject) {
  const call = rpc === undefined ? {} : { rpc }
  if (!connection) return { ...call, uid: undefined }
  const { caller, path } = connection
  return { ...call, pid: caller.pid, uid: caller.uid, socket: path }
}

interface Budget {
  readonly lines: number
  readonly at: bigint
  readonly leftOut: number
}

/** Nobody on the machine can fill its disk by calling again and again. */
function lineBudgets(clock: Clock) {
  const held = new Map<number | undefined, Budget>()
  return {
    spend(uid: number | undefined): { readonly allowed: boolean; readonly leftOut: number } {
      const at = clock.hrtime()
      const before = held.get(uid) ?? { lines: BURST, at, leftOut: 0 }
      const earned = (Number(at - before.at) / 1e9) * PER_SECOND
      const lines = Math.min(BURST, before.lines + earned)
      const allowed = lines >= 1
      held.delete(uid)
      held.set(uid, {
        lines: allowed ? lines - 1 : lines,
        at,
        leftOut: allowed ? 0 : before.leftOut + 1,
      })
      if (held.size > MAX_USERS) held.delete(held.keys().next().value)
      return { allowed, leftOut: before.leftOut }
    },
  }
}

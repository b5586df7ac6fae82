import { type Backoff, exponentialBackoff } from '../../platform/backoff.js'
import type { Clock } from '../../platform/clock.js'
import type { Log } from '../../platform/log.js'
import type { Random } from '../../platform/random.js'
import type { X509Svid } from '../../spiffe/index.js'
import { AgentError } from '../errors.js'
import { requestKey } from '../sentry/csr.js'
import type { Issuer, X509Answer } from '../sentry/issuer.js'
import { isOutage } from '../sentry/refusal.js'
import { alarmOn } from '../waits.js'
import { dueEntries } from './due.js'
import { type Held, type HeldSvid, isCurrent, withoutExpired, withSvids } from './held.js'
import type { HeldEntry } from './identities.js'
import { svidReader } from './read-svid.js'
import { type Waiters, waiters } from './waiters.js'

export interface X509KeeperOptions {
  readonly held: () => Held
  readonly entry: (id: string) => HeldEntry | undefined
  readonly replace: (held: Held) => void
  readonly issuer: Issuer
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly onBatch?: (result: 'issued' | 'refused' | 'failed', count: number) => void
}

/** Has an SVID in hand for every entry before anybody asks, and a fresh one before the old one ends. */
export interface X509Keeper {
  /** Throws `CS_ENTRY_WITHDRAWN`, `CS_ISSUANCE_REFUSED`, `CS_SENTRY_UNAVAILABLE` or the signal's reason. */
  whenSvid(entry: HeldEntry, signal: AbortSignal): Promise<X509Svid>
  /** What is held has changed: looks at once for what is missing. */
  heldChanged(): void
  run(signal: AbortSignal): Promise<void>
}

/** What a sentry takes in one call. */
const MAX_BATCH = 500
const CALL_RETRY = { firstMs: 1_000, maxMs: 5_000 }
const ITEM_RETRY = { firstMs: 2_000, maxMs: 300_000 }
/** When so many calls for a single SVID have failed in a row, it is not those that are at fault. */
const MAX_ALONE = 3

interface ItemTrouble {
  readonly entry: HeldEntry
  readonly backoff: Backoff
  readonly error: AgentError
  readonly retryAt: number
}

export function x509Keeper(options: X509KeeperOptions): X509Keeper {
  const { held, entry: entryOf, replace, issuer, clock, random, log, onBatch = () => {} } = options
  const alarm = alarmOn(clock)
  const waiting: Waiters = waiters()
  const callRetry = exponentialBackoff({ ...CALL_RETRY, random })
  /** Entries that were refused one by one, which must not hold up the others. */
  const troubles = new Map<string, ItemTrouble>()
  /** The last call failed as a whole; the next waits. */
  let callTrouble: { readonly error: Error; readonly retryAt: number } | undefined
  let batchSize = MAX_BATCH
  let failedAlone = 0
  const now = () => clock.now().getTime()

  return {
    async whenSvid(entry, signal) {
      signal.throwIfAborted()
      if (!entryOf(entry.id)) throw withdrawn(entry.id)
      const inHand = held().svids.get(entry.id)
      if (inHand && inHand.expiresAt > now()) return inHand.svid
      const trouble = troubles.get(entry.id)
      if (trouble && trouble.retryAt > now()) throw trouble.error
      if (callTrouble && callTrouble.retryAt > now()) throw callTrouble.error
      alarm.ring()
      return await waiting.wait(entry.id, signal)
    },
    heldChanged() {
      callTrouble = undefined
      for (const [id, { entry }] of troubles) if (entryOf(id) !== entry) troubles.delete(id)
      for (const id of waiting.ids()) if (!entryOf(id)) waiting.fail(id, withdrawn(id))
      alarm.ring()
    },
    async run(signal) {
      while (!signal.aborted) await step(signal)
      for (const id of waiting.ids()) waiting.fail(id, signal.reason as Error)
    },
  }

  async function step(signal: AbortSignal): Promise<void> {
    const living = withoutExpired(held(), now())
    if (living !== held()) replace(living)
    const blockedUntil = (id: string) =>
      Math.max(troubles.get(id)?.retryAt ?? 0, callTrouble?.retryAt ?? 0)
    const { due, next } = dueEntries(held(), { now: now(), blockedUntil, isWanted: waiting.has })
    if (due.length === 0) {
      await alarm.wait(next - now(), signal).catch(() => undefined)
      return
    }
    const batch = due.slice(0, batchSize)
    try {
      await issueAll(batch, signal)
      batchSize = Math.min(MAX_BATCH, batchSize * 2)
      callTrouble = undefined
      failedAlone = 0
      callRetry.reset()
    } catch (error) {
      if (!signal.aborted) callFailed(batch, error as Error)
    }
  }

  async function issueAll(batch: readonly HeldEntry[], signal: AbortSignal): Promise<void> {
    const keys = await Promise.all(batch.map(() => requestKey()))
    const requests = batch.map(({ id }, index) => ({
      entryId: id,
      csr: keys[index]?.csr ?? new Uint8Array(),
    }))
    const answers = await issuer.x509Svids(requests, signal)
    const read = svidReader({ held: held(), now: now(), random })
    const issued = new Map<string, HeldSvid>()
    for (const [index, entry] of batch.entries()) {
      const key = keys[index]
      const answer = answers[index]
      if (!key || !answer) continue
      const outcome = outcomeOf(answer, (svid) => read(svid, { entry, key }))
      if (outcome instanceof AgentError) itemFailed(entry, outcome)
      else issued.set(entry.id, outcome)
      if (index % SLICE === SLICE - 1) await new Promise((resolve) => setImmediate(resolve))
    }
    publish(issued)
  }

  /** An entry may have gone, or have become another, while its SVID was made. */
  function publish(issued: Map<string, HeldSvid>): void {
    for (const [id, { svid }] of issued) if (entryOf(id)?.spiffeId !== svid.id) issued.delete(id)
    onBatch('issued', issued.size)
    if (issued.size === 0) return
    replace(withSvids(held(), issued))
    for (const [id, kept] of issued) {
      const entry = entryOf(id)
      if (entry && isCurrent(kept, entry)) troubles.delete(id)
      waiting.give(id, kept.svid)
    }
  }

  function itemFailed(entry: HeldEntry, error: AgentError): void {
    const backoff = troubles.get(entry.id)?.backoff ?? exponentialBackoff({ ...ITEM_RETRY, random })
    troubles.set(entry.id, { entry, backoff, error, retryAt: now() + backoff.nextMs() })
    log.warn({ entry: entry.id, code: error.code, reason: error.message }, 'no SVID for an entry')
    onBatch('refused', 1)
    waiting.fail(entry.id, error)
  }

  /** A request that alone makes the call fail is found by halving, and then counts as refused. */
  function callFailed(batch: readonly HeldEntry[], error: Error): void {
    const outage = isOutage(error)
    const [only, ...others] = batch
    if (only && others.length === 0 && !outage) {
      itemFailed(only, new AgentError('CS_ISSUANCE_REFUSED', error.message, { cause: error }))
      failedAlone += 1
      if (failedAlone >= MAX_ALONE) callTrouble = { error, retryAt: now() + callRetry.nextMs() }
      return
    }
    batchSize = Math.max(1, Math.floor(batch.length / 2))
    callTrouble = { error, retryAt: outage ? now() + callRetry.nextMs() : now() }
    const code = error instanceof AgentError ? error.code : undefined
    log.warn({ code, reason: error.message, entries: batch.length }, 'no SVIDs from the sentry')
    onBatch('failed', 1)
    if (outage) for (const { id } of batch) waiting.fail(id, error)
  }
}

/** Certificates read between two looks at the event loop. */
const SLICE = 16

function outcomeOf(
  answer: X509Answer,
  read: (svid: Extract<X509Answer, { kind: 'issued' }>['svid']) => HeldSvid,
): HeldSvid | AgentError {
  if (answer.kind === 'refused') return new AgentError('CS_ISSUANCE_REFUSED', answer.reason)
  try {
    return read(answer.svid)
  } catch (error) {
    if (error instanceof AgentError) return error
    throw error
  }
}

function withdrawn(id: string): AgentError {
  return new AgentError('CS_ENTRY_WITHDRAWN', `entry ${id} is not one of this agent's`)
}

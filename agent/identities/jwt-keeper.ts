import { type Backoff, exponentialBackoff } from '../../platform/backoff.js'
import type { Clock } from '../../platform/clock.js'
import type { Log } from '../../platform/log.js'
import type { Random } from '../../platform/random.js'
import { AgentError } from '../errors.js'
import type { Issuer } from '../sentry/issuer.js'
import { alarmOn, lifetime, orAborted, within } from '../waits.js'
import type { HeldEntry, HeldJwtSvid, JwtRequest } from './identities.js'
import { type HeldToken, readToken } from './read-token.js'

export interface JwtKeeperOptions {
  readonly entry: (id: string) => HeldEntry | undefined
  /** Whether our bundle stands by a key. */
  readonly isSound: (keyId: string) => boolean
  readonly issuer: Issuer
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Keeps the tokens that are in use, each under its entry and audience, and refreshes them ahead of need. */
export interface JwtKeeper {
  /** Throws `CS_ENTRY_WITHDRAWN`, `CS_ISSUANCE_REFUSED`, `CS_SENTRY_UNAVAILABLE` or the signal's reason. */
  jwtSvid(request: JwtRequest): Promise<HeldJwtSvid>
  /** Lets go of tokens whose entry has changed, or whose key our bundle no longer stands by. */
  heldChanged(): void
  size(): number
  run(signal: AbortSignal): Promise<void>
}

const MAX_TOKENS = 1000
/** How long a caller whose token is near its end waits for a newer one. */
const OLD_TOKEN_WAIT_MS = 500
const RETRY = { firstMs: 2_000, maxMs: 60_000 }

interface Slot {
  readonly held: HeldToken
  /** Somebody has asked for it since it came: it is worth refreshing. */
  readonly used: boolean
  readonly refreshAt: number
  readonly backoff: Backoff
}

export function jwtKeeper(options: JwtKeeperOptions): JwtKeeper {
  const { issuer, clock, random, log } = options
  const alarm = alarmOn(clock)
  const life = lifetime()
  /** The least recently used first. */
  const slots = new Map<string, Slot>()
  const fetching = new Map<string, Promise<HeldToken>>()
  const now = () => clock.now().getTime()

  return {
    async jwtSvid({ entry: { id }, audience, signal }) {
      signal.throwIfAborted()
      const entry = options.entry(id)
      if (!entry)
        throw new AgentError('CS_ENTRY_WITHDRAWN', `entry ${id} is not one of this agent's`)
      const wanted = { entry, audience: [...new Set(audience)].sort() }
      const slot = touch(keyOf(wanted))
      if (!slot || slot.held.expiresAt <= now()) return await orAborted(fetchOnce(wanted), signal)
      if (slot.refreshAt > now()) return slot.held
      const newer = fetchOnce(wanted)
      newer.catch(() => undefined)
      return slot.held.oldAt > now() ? slot.held : await soonOr(newer, slot.held, signal)
    },
    heldChanged() {
      for (const [key, { held }] of slots) {
        if (options.entry(held.entry.id) !== held.entry || !options.isSound(held.keyId)) {
          slots.delete(key)
        }
      }
    },
    size: () => slots.size,
    async run(signal) {
      while (!signal.aborted) {
        const next = refreshUsed()
        await alarm.wait(next - now(), signal).catch(() => undefined)
      }
      life.abort(signal.reason)
    },
  }

  /** Marks the token as used, and as used last. */
  function touch(key: string): Slot | undefined {
    const slot = slots.get(key)
    if (!slot) return undefined
    slots.delete(key)
    slots.set(key, { ...slot, used: true })
    return slot
  }

  /** All who want the same token at the same time wait for the same call. */
  function fetchOnce(wanted: Wanted): Promise<HeldToken> {
    const key = keyOf(wanted)
    const running = fetching.get(key)
    if (running) return running
    const fetched = fetchToken(key, wanted).finally(() => fetching.delete(key))
    fetching.set(key, fetched)
    return fetched
  }

  async function fetchToken(key: string, { entry, audience }: Wanted): Promise<HeldToken> {
    try {
      const wire = await issuer.jwtSvid({ entryId: entry.id, audience }, life.signal)
      const held = readToken(wire, { entry, audience, now: now(), random })
      if (options.entry(entry.id) === entry) keep(key, held)
      return held
    } catch (error) {
      putOff(key)
      const code = error instanceof AgentError ? error.code : undefined
      // Who waits for a first token is told so itself, as often as it asks.
      const level = slots.has(key) ? 'warn' : 'debug'
      const reason = (error as Error).message
      log[level]({ entry: entry.id, code, reason }, 'no token from the sentry')
      throw error
    }
  }

  function keep(key: string, held: HeldToken): void {
    slots.delete(key)
    const backoff = exponentialBackoff({ ...RETRY, random })
    slots.set(key, { held, used: false, refreshAt: held.refreshAt, backoff })
    if (slots.size > MAX_TOKENS) letGoOfOne()
    alarm.ring()
  }

  /** The least recently used of the entry that has the most: a workload pushes out its own tokens first. */
  function letGoOfOne(): void {
    const counts = new Map<string, number>()
    for (const { held } of slots.values()) {
      counts.set(held.entry.id, (counts.get(held.entry.id) ?? 0) + 1)
    }
    const most = Math.max(...counts.values())
    for (const [key, { held }] of slots) {
      if (counts.get(held.entry.id) === most) return void slots.delete(key)
    }
  }

  /** The token at hand is still good, so a sentry in trouble is not asked at every turn. */
  function putOff(key: string): void {
    const slot = slots.get(key)
    if (slot) slots.set(key, { ...slot, refreshAt: now() + slot.backoff.nextMs() })
  }

  /** Starts the refreshes that are due and says when the next will be. */
  function refreshUsed(): number {
    let next = Number.POSITIVE_INFINITY
    for (const [key, { held, used, refreshAt }] of slots) {
      if (held.expiresAt <= now()) slots.delete(key)
      else if (used && refreshAt <= now()) fetchOnce(held).catch(() => undefined)
      else next = Math.min(next, used ? refreshAt : held.expiresAt)
    }
    return next
  }

  async function soonOr(
    newer: Promise<HeldToken>,
    held: HeldToken,
    signal: AbortSignal,
  ): Promise<HeldToken> {
    const expired = () => new AgentError('CS_SENTRY_UNAVAILABLE', 'sentry is slow')
    try {
      return await within({ clock, ms: OLD_TOKEN_WAIT_MS, signal, expired }, () => newer)
    } catch {
      signal.throwIfAborted()
      return held
    }
  }
}

interface Wanted {
  readonly entry: HeldEntry
  /** Sorted, each once. */
  readonly audience: readonly string[]
}

function keyOf({ entry, audience }: Wanted): string {
  return JSON.stringify([entry.id, ...audience])
}

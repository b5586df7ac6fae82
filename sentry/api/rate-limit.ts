import type { Clock } from '../../platform/clock.js'
import type { SentryError } from '../errors.js'

export interface RateLimit {
  readonly perSecond: number
  /** Longest that a call is held back before it is refused instead. */
  readonly maxWaitMs: number
}

/** Calls of one kind, counted per key: the identity of the caller, or its address. */
export interface RateLimiter {
  /**
   * Takes `cost` from what the key has left and gives the milliseconds until it is its turn. Throws a
   * {@link RateLimitError} when that would be too long.
   */
  reserve(key: string, cost?: number): number
}

/** Tells the caller when to come back. */
export class RateLimitError extends Error {
  override readonly name = 'RateLimitError'
  readonly code = 'CS_RATE_LIMITED' satisfies SentryError['code']
  readonly retryAfterMs: number

  constructor(retryAfterMs: number) {
    super(`rate limit exceeded, try again in ${Math.ceil(retryAfterMs)} ms`)
    this.retryAfterMs = retryAfterMs
  }
}

/** A bucket holds what flows in within this. */
const BUCKET_MS = 1000
/** Keys whose bucket is full again are forgotten when there are this many; what is above shares one. */
const MAX_KEYS = 10_000
const OVERFLOW_KEY = ''

/**
 * A token bucket per key. It is kept as the moment at which the bucket
 * will be full again, so waiting calls have their turn already and nothing is queued.
 */
export function rateLimiter({ perSecond, maxWaitMs }: RateLimit, clock: Clock): RateLimiter {
  const fullAt = new Map<string, number>()
  const msPerUnit = 1000 / perSecond
  const nowMs = () => Number(clock.hrtime() / 1000n) / 1000

  return {
    reserve(asked, cost = 1) {
      // More than the bucket ever holds; no wait would help.
      if (cost > perSecond) throw new RateLimitError(cost * msPerUnit)
      const now = nowMs()
      if (fullAt.size >= MAX_KEYS) forgetFull(fullAt, now)
      const key = fullAt.size >= MAX_KEYS && !fullAt.has(asked) ? OVERFLOW_KEY : asked
      const next = Math.max(fullAt.get(key) ?? now, now) + cost * msPerUnit
      const wait = next - now - BUCKET_MS
      if (wait > maxWaitMs) throw new RateLimitError(wait)
      fullAt.set(key, next)
      return Math.max(0, wait)
    },
  }
}

/** What an address counts as: an IPv6 customer has a whole /64 to choose from. */
export function addressKey(address: string): string {
  if (!address.includes(':') || address.includes('.')) return address
  const [head = '', tail] = address.split('::')
  const groups = head.split(':').filter((group) => group !== '')
  const missing = tail === undefined ? 0 : 8 - groups.length - tail.split(':').length
  return [...groups, ...Array<string>(Math.max(0, missing)).fill('0'), ...(tail ?? '').split(':')]
    .slice(0, 4)
    .join(':')
}

function forgetFull(fullAt: Map<string, number>, now: number): void {
  for (const [key, at] of fullAt) if (at <= now) fullAt.delete(key)
}

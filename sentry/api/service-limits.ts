import type { Clock } from '../../platform/clock.js'
import { type Caller, nameOf } from './caller.js'
import { addressKey, type RateLimit, type RateLimiter, rateLimiter } from './rate-limit.js'

/** What is limited, as SPIRE groups it; reading is not limited there. */
type LimitName = 'attest' | 'sign' | 'jwt' | 'status' | 'read'

/** Undefined turns a limit off. */
export type RateLimits = { readonly [Name in LimitName]: RateLimit | undefined }

const MAX_WAIT_MS = 1000

/** SPIRE's numbers, and one for reading that no agent reaches. */
export const defaultRateLimits: RateLimits = {
  attest: { perSecond: 1, maxWaitMs: MAX_WAIT_MS },
  sign: { perSecond: 500, maxWaitMs: MAX_WAIT_MS },
  jwt: { perSecond: 500, maxWaitMs: MAX_WAIT_MS },
  status: { perSecond: 10, maxWaitMs: MAX_WAIT_MS },
  read: { perSecond: 500, maxWaitMs: MAX_WAIT_MS },
}

/** Its signal is looked at only when the call must wait: it costs something to have one. */
export interface LimitedCall {
  readonly caller: Caller
  readonly signal: AbortSignal
}

/** Whoever can open the admin socket is not limited. */
export interface ServiceLimits {
  /** Waits for the call's turn, for a moment at most. Throws `CS_RATE_LIMITED`. */
  take(limit: LimitName, call: LimitedCall, cost?: number): Promise<void>
}

export function serviceLimits(limits: RateLimits, clock: Clock): ServiceLimits {
  const limiters = new Map<LimitName, RateLimiter>()
  for (const [name, limit] of Object.entries(limits)) {
    if (limit) limiters.set(name as LimitName, rateLimiter(limit, clock))
  }
  return {
    async take(limit, call, cost = 1) {
      const { caller } = call
      const limiter = limiters.get(limit)
      if (!limiter || caller.kind === 'local') return
      // By identity where there is one: agents behind one address do not take each other's share.
      const key = caller.kind === 'identified' ? nameOf(caller) : addressKey(caller.address)
      const wait = limiter.reserve(key, cost)
      if (wait > 0) await clock.sleep(wait, call.signal)
    },
  }
}

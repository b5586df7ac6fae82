import type { Clock } from '../../platform/clock.js'
import { type Caller, nameOf } from './caller.js'
import { addressKey, type RateLimit, type RateLimiter, rateLimiter } from './rate-limit.js'

/** What is limited, as SPIRE groups it. */
type LimitName = 'attest' | 'sign' | 'jwt' | 'status'

/** Undefined turns a limit off. */
export type RateLimits = { readonly [Name in LimitName]: RateLimit | undefined }

const MAX_WAIT_MS = 1000

/** SPIRE's numbers. */
export const defaultRateLimits: RateLimits = {
  attest: { perSecond: 1, maxWaitMs: MAX_WAIT_MS },
  sign: { perSecond: 500, maxWaitMs: MAX_WAIT_MS },
  jwt: { perSecond: 500, maxWaitMs: MAX_WAIT_MS },
  status: { perSecond: 10, maxWaitMs: MAX_WAIT_MS },
}

/** Whoever can open the admin socket is not limited. */
export interface ServiceLimits {
  /** Throws `CS_RATE_LIMITED`. */
  take(
    limit: LimitName,
    call: { readonly caller: Caller; readonly signal: AbortSignal; readonly cost?: number },
  ): Promise<void>
}

export function serviceLimits(limits: RateLimits, clock: Clock): ServiceLimits {
  const limiters = new Map<LimitName, RateLimiter>()
  for (const [name, limit] of Object.entries(limits)) {
    if (limit) limiters.set(name as LimitName, rateLimiter(limit, clock))
  }
  return {
    async take(limit, { caller, signal, cost = 1 }) {
      if (caller.kind === 'local') return
      // By identity where there is one: agents behind one address do not take each other's share.
      const key = caller.kind === 'identified' ? nameOf(caller) : addressKey(caller.address)
      await limiters.get(limit)?.take(key, { cost, signal })
    },
  }
}

import type { Deadlines } from './deadlines.js'
import type { ConnectionLimits } from './limits.js'

/** Holds back an address that opens connections faster than it may. */
export interface ConnectRate {
  allows(address: string): boolean
}

interface Bucket {
  tokens: number
  at: number
}

const MAX_ADDRESSES = 4096

/** A bucket of tokens for each address. Those that are full again are forgotten when room is needed. */
export function connectRate(
  { connectRate: rate, connectBurst: burst }: ConnectionLimits,
  deadlines: Deadlines,
): ConnectRate {
  const buckets = new Map<string, Bucket>()

  const filled = ({ tokens, at }: Bucket) =>
    Math.min(burst, tokens + ((deadlines.now - at) / 1000) * rate)
  const forgetFull = () => {
    for (const [address, bucket] of buckets) if (filled(bucket) >= burst) buckets.delete(address)
  }
  return {
    allows(address) {
      if (buckets.size >= MAX_ADDRESSES) forgetFull()
      const bucket = buckets.get(address)
      const tokens = bucket ? filled(bucket) : burst
      if (tokens < 1 || (!bucket && buckets.size >= MAX_ADDRESSES)) return false
      buckets.set(address, { tokens: tokens - 1, at: deadlines.now })
      return true
    },
  }
}

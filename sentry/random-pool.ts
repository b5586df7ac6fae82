import type { Random } from '../platform/random.js'

const POOL_OCTETS = 4096

/**
 * Hands out random bytes from a larger draw: sixteen at a time cost more than the template they go
 * into. For serial numbers and token ids, which nobody may guess but which are no secret either.
 */
export function pooledRandom(random: Pick<Random, 'bytes'>): Pick<Random, 'bytes'> {
  let pool: Uint8Array = new Uint8Array()
  let used = 0
  return {
    bytes(length) {
      if (used + length > pool.length) {
        pool = random.bytes(Math.max(length, POOL_OCTETS))
        used = 0
      }
      used += length
      return pool.subarray(used - length, used)
    },
  }
}

import type { Random } from './random.js'

export interface BackoffOptions {
  readonly firstMs: number
  readonly maxMs: number
  readonly random: Random
}

/** Growing waits with full jitter in their upper half: the n-th lies in [w/2, w], w = first * 2^n up to max. */
export interface Backoff {
  nextMs(): number
  reset(): void
}

export function exponentialBackoff({ firstMs, maxMs, random }: BackoffOptions): Backoff {
  let ceiling = firstMs
  return {
    nextMs() {
      const wait = ceiling / 2 + (random.fraction() * ceiling) / 2
      ceiling = Math.min(ceiling * 2, maxMs)
      return wait
    },
    reset() {
      ceiling = firstMs
    },
  }
}

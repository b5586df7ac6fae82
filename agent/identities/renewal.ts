import type { Random } from '../../platform/random.js'
import type { X509Svid } from '../../spiffe/index.js'

/** SVIDs that came together are renewed within a fifth of half a life of each other, not together. */
const SPREAD = 0.1

/**
 * When to ask for the successor: around half of the life that is left, drawn once. It counts from
 * `now` and not from what the certificate says, so that a wrong clock cannot make every new SVID due.
 */
export function drawRenewal(options: {
  readonly svid: X509Svid
  readonly now: number
  readonly random: Random
}): number {
  const { svid, now, random } = options
  const [leaf] = svid.chain
  const life = Math.min(leaf.notAfter - leaf.notBefore, expiryOf(svid) - now)
  const factor = 1 - SPREAD + 2 * SPREAD * random.fraction()
  return now + Math.max(0, (life / 2) * factor)
}

/** The earliest end in the chain: an SVID is of no use once one of its issuers has expired. */
export function expiryOf(svid: X509Svid): number {
  return Math.min(...svid.chain.map(({ notAfter }) => notAfter))
}

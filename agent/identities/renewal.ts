import type { Random } from '../../platform/random.js'
import type { X509Svid } from '../../spiffe/index.js'

/** What came together is renewed within a fifth of half a life of each other, not together. */
const SPREAD = 0.1

/** A moment around half of `life` from now, to be drawn once and kept. */
export function drawMoment(options: {
  readonly life: number
  readonly now: number
  readonly random: Random
}): number {
  const { life, now, random } = options
  const factor = 1 - SPREAD + 2 * SPREAD * random.fraction()
  return now + Math.max(0, Math.floor((life / 2) * factor))
}

/**
 * When to ask for the successor of an SVID. It counts from `now` and not from what the certificate
 * says, so that a wrong clock cannot make every new SVID due at once.
 */
export function drawRenewal(options: {
  readonly svid: X509Svid
  readonly now: number
  readonly random: Random
}): number {
  const { svid, now, random } = options
  const [leaf] = svid.chain
  const life = Math.min(leaf.notAfter - leaf.notBefore, expiryOf(svid) - now)
  return drawMoment({ life, now, random })
}

/** The earliest end in the chain: an SVID is of no use once one of its issuers has expired. */
export function expiryOf(svid: X509Svid): number {
  return Math.min(...svid.chain.map(({ notAfter }) => notAfter))
}

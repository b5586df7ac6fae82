import { isDeepStrictEqual } from 'node:util'
import { bundleSet, type TrustBundle, verifyX509Svid, type X509Svid } from '../../spiffe/index.js'
import type { HeldBundle } from './held.js'

/** The part of a bundle that new SVIDs may be built on. */
export function soundPart({ bundle, taintedX509, taintedJwt }: HeldBundle): TrustBundle {
  if (taintedX509.size === 0 && taintedJwt.size === 0) return bundle
  const { x509Authorities, jwtAuthorities } = bundle
  return {
    ...bundle,
    x509Authorities: x509Authorities.filter(({ fingerprint }) => !taintedX509.has(fingerprint)),
    jwtAuthorities: new Map([...jwtAuthorities].filter(([keyId]) => !taintedJwt.has(keyId))),
  }
}

/**
 * Tells whether an SVID that was good when it came leads to an authority that the bundle still stands
 * by. All SVIDs of one issuer get the same answer, so it is worked out once for each.
 */
export function trustJudge(held: HeldBundle, now: number): (svid: X509Svid) => boolean {
  const bundle = soundPart(held)
  const verdicts = new Map<string, boolean>()
  return (svid) => {
    const issuer = issuerKey(svid)
    const known = verdicts.get(issuer)
    if (known !== undefined) return known
    const verdict = leadsTo(bundle, svid, now)
    verdicts.set(issuer, verdict)
    return verdict
  }
}

export function sameBundle(a: HeldBundle, b: HeldBundle): boolean {
  return (
    a.bundle.sequence === b.bundle.sequence &&
    a.bundle.refreshHint === b.bundle.refreshHint &&
    isDeepStrictEqual(fingerprints(a.bundle), fingerprints(b.bundle)) &&
    isDeepStrictEqual(a.taintedX509, b.taintedX509) &&
    isDeepStrictEqual(a.taintedJwt, b.taintedJwt) &&
    sameJwtKeys(a.bundle, b.bundle)
  )
}

function leadsTo(bundle: TrustBundle, svid: X509Svid, now: number): boolean {
  const [leaf] = svid.chain
  // Dates are not the question here: an SVID of yesterday has the same issuer as one of today.
  const within = Math.min(Math.max(now, leaf.notBefore), leaf.notAfter)
  try {
    verifyX509Svid({
      chain: svid.chain.map(({ der }) => der),
      bundles: bundleSet([bundle]),
      now: new Date(within),
    })
    return true
  } catch {
    return false
  }
}

function issuerKey({ chain: [leaf, ...issuers] }: X509Svid): string {
  return [
    leaf.authorityKeyId,
    Buffer.from(leaf.issuer).toString('base64'),
    ...issuers.map(({ fingerprint }) => fingerprint),
  ].join(' ')
}

function fingerprints({ x509Authorities }: TrustBundle): readonly string[] {
  return x509Authorities.map(({ fingerprint }) => fingerprint)
}

function sameJwtKeys(a: TrustBundle, b: TrustBundle): boolean {
  if (a.jwtAuthorities.size !== b.jwtAuthorities.size) return false
  return [...a.jwtAuthorities].every(([keyId, { publicKey }]) => {
    const other = b.jwtAuthorities.get(keyId)
    return other !== undefined && publicKey.equals(other.publicKey)
  })
}

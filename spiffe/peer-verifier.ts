import { createHash } from 'node:crypto'
import { type BundleSource, bundleOf, type TrustBundle } from './bundle.js'
import { trustDomainOf } from './id.js'
import { recentlyUsed } from './recently-used.js'
import { knownIntermediates } from './x509-intermediates.js'
import type { PeerUsage } from './x509-path-checks.js'
import { judgePresented, parsePresented, type VerifiedPeer } from './x509-verify.js'

/** Verifies peers against bundles that may change at any time. */
export interface PeerVerifier {
  /** Judges as `verifyX509Svid` does, and with its codes. */
  verify(chain: readonly Uint8Array[], now: Date, usage?: PeerUsage): VerifiedPeer
}

interface Verdict {
  readonly peer: VerifiedPeer
  /** The very bundle it was reached with: another object may hold other keys. */
  readonly bundle: TrustBundle
  readonly validFrom: number
}

const DEFAULT_MAX_CACHED = 2048
const MAX_INTERMEDIATES = 64
/** Longer chains are verified each time: a peer with a valid leaf could otherwise fill memory with ballast. */
const MAX_CACHED_BYTES = 16 * 1024

/**
 * A verifier that remembers whom it accepted, under the presented chain and the bundle, until the first
 * certificate on the path expires. Refusals are not remembered, so nobody can fill the memory with them.
 */
export function peerVerifier(options: {
  readonly bundles: BundleSource
  readonly maxCached?: number
}): PeerVerifier {
  const { bundles, maxCached = DEFAULT_MAX_CACHED } = options
  const verdicts = recentlyUsed<Verdict>(maxCached)
  const intermediates = knownIntermediates(MAX_INTERMEDIATES)

  return {
    verify(chain, now, usage) {
      const key = keyOf(chain, usage)
      const held = verdicts.get(key)
      if (held && stillHolds(held, bundles, now)) return held.peer
      verdicts.delete(key)

      const presented = parsePresented(chain, intermediates.parse)
      const { peer, bundle } = judgePresented({ chain: presented, bundles, now, usage })
      intermediates.keep(peer.path.slice(1, -1))
      const validFrom = Math.max(...peer.path.map(({ notBefore }) => notBefore))
      if (lengthOf(chain) <= MAX_CACHED_BYTES) verdicts.set(key, { peer, bundle, validFrom })
      return peer
    },
  }
}

function stillHolds(verdict: Verdict, bundles: BundleSource, now: Date): boolean {
  const { peer, bundle, validFrom } = verdict
  const time = now.getTime()
  const inTime = time >= validFrom && time <= peer.expiresAt
  return inTime && bundleOf(bundles, trustDomainOf(peer.id)) === bundle
}

function lengthOf(chain: readonly Uint8Array[]): number {
  return chain.reduce((sum, { length }) => sum + length, 0)
}

/** Lengths are part of the hash, so that no other cut of the same bytes has the same key. */
function keyOf(chain: readonly Uint8Array[], usage: PeerUsage | undefined): string {
  const hash = createHash('sha256')
  hash.update(`${usage ?? 'either'} ${chain.map(({ length }) => length).join(' ')}\n`)
  for (const der of chain) hash.update(der)
  return hash.digest('base64')
}

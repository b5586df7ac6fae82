import { createHash } from 'node:crypto'
import type { BundleSource, TrustBundle } from './bundle.js'
import { trustDomainOf } from './id.js'
import type { PeerUsage } from './x509-path.js'
import { bundleOf, type VerifiedPeer, verifyX509Svid } from './x509-verify.js'

/** Verifies peers against bundles that may change at any time. */
export interface PeerVerifier {
  /** As {@link verifyX509Svid}, and with its codes. */
  verify(chain: readonly Uint8Array[], now: Date, usage?: PeerUsage): VerifiedPeer
}

interface Verdict {
  readonly peer: VerifiedPeer
  /** The very bundle it was reached with: another object may hold other keys. */
  readonly bundle: TrustBundle
  readonly validFrom: number
}

const DEFAULT_MAX_CACHED = 2048

/**
 * A verifier that remembers whom it accepted, under the presented chain and the bundle, until the first
 * certificate on the path expires. Refusals are not remembered, so nobody can fill the memory with them.
 */
export function peerVerifier(options: {
  readonly bundles: BundleSource
  readonly maxCached?: number
}): PeerVerifier {
  const { bundles, maxCached = DEFAULT_MAX_CACHED } = options
  const verdicts = new Map<string, Verdict>()

  return {
    verify(chain, now, usage) {
      const key = keyOf(chain, usage)
      const held = verdicts.get(key)
      verdicts.delete(key)
      if (held && stillHolds(held, bundles, now)) {
        verdicts.set(key, held)
        return held.peer
      }
      const verdict = reachVerdict({ chain, now, usage, bundles })
      verdicts.set(key, verdict)
      dropOldest(verdicts, maxCached)
      return verdict.peer
    },
  }
}

/** Asks for the bundle once and fixes it, so that the verdict is filed under the bundle it was reached with. */
function reachVerdict(options: {
  readonly chain: readonly Uint8Array[]
  readonly now: Date
  readonly usage: PeerUsage | undefined
  readonly bundles: BundleSource
}): Verdict {
  let used: TrustBundle | undefined
  const bundles: BundleSource = {
    bundleFor(trustDomain) {
      used = bundleOf(options.bundles, trustDomain)
      return used
    },
  }
  const peer = verifyX509Svid({ ...options, bundles })
  const validFrom = Math.max(...peer.path.map(({ notBefore }) => notBefore))
  return { peer, bundle: used ?? bundleOf(bundles, trustDomainOf(peer.id)), validFrom }
}

function stillHolds(
  { peer, bundle, validFrom }: Verdict,
  bundles: BundleSource,
  now: Date,
): boolean {
  const time = now.getTime()
  return (
    time >= validFrom &&
    time <= peer.expiresAt &&
    bundleOf(bundles, trustDomainOf(peer.id)) === bundle
  )
}

/** Lengths are part of the hash, so that no other cut of the same bytes has the same key. */
function keyOf(chain: readonly Uint8Array[], usage: PeerUsage | undefined): string {
  const hash = createHash('sha256')
  hash.update(`${usage ?? 'either'} ${chain.map(({ length }) => length).join(' ')}\n`)
  for (const der of chain) hash.update(der)
  return hash.digest('base64')
}

function dropOldest(verdicts: Map<string, Verdict>, maxCached: number): void {
  for (const key of verdicts.keys()) {
    if (verdicts.size <= maxCached) return
    verdicts.delete(key)
  }
}

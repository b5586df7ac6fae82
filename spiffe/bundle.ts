import type { KeyObject } from 'node:crypto'
import { SpiffeError } from './errors.js'
import type { TrustDomain } from './id.js'
import type { Certificate } from './x509-certificate.js'

/** A key that signs JWT-SVIDs, as a bundle publishes it. */
export interface JwtAuthority {
  readonly keyId: string
  readonly publicKey: KeyObject
}

/**
 * The keys of one trust domain (SPIFFE Trust Domain and Bundle §3). Immutable: a change is a new
 * bundle, and `===` tells whether anything may have changed.
 */
export interface TrustBundle {
  readonly trustDomain: TrustDomain
  readonly x509Authorities: readonly Certificate[]
  readonly jwtAuthorities: ReadonlyMap<string, JwtAuthority>
  /** `spiffe_sequence`; absent in bundles that came over the Workload API. */
  readonly sequence?: bigint
  /** `spiffe_refresh_hint`, in seconds. */
  readonly refreshHint?: number
}

/** Where a verifier gets the bundle for a peer's trust domain. A set, a file and a live watch all are one. */
export interface BundleSource {
  /** Throws `CS_BUNDLE_NOT_FOUND` for a trust domain it does not hold. */
  bundleFor(trustDomain: TrustDomain): TrustBundle
}

/** A fixed set of bundles. The later of two for the same trust domain wins. */
export function bundleSet(bundles: Iterable<TrustBundle>): BundleSource {
  const held = new Map([...bundles].map((bundle) => [bundle.trustDomain, bundle]))
  return {
    bundleFor: (trustDomain) => held.get(trustDomain) ?? bundleNotFound(trustDomain),
  }
}

/** The bundle of this trust domain; a source that answers with another one is not believed. */
export function bundleOf(bundles: BundleSource, trustDomain: TrustDomain): TrustBundle {
  const bundle = bundles.bundleFor(trustDomain)
  return bundle.trustDomain === trustDomain ? bundle : bundleNotFound(trustDomain)
}

/** Throws `CS_BUNDLE_NOT_FOUND`, in the same words for every source. */
export function bundleNotFound(trustDomain: TrustDomain): never {
  throw new SpiffeError('CS_BUNDLE_NOT_FOUND', `no bundle for trust domain ${trustDomain}`)
}

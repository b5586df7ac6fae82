import {
  type BundleSource,
  bundleNotFound,
  type TrustBundle,
  type TrustDomain,
} from '../spiffe/index.js'

export interface BundleChange {
  readonly trustDomain: TrustDomain
  /** Undefined when it is held no longer. */
  readonly bundle: TrustBundle | undefined
  /** Revision of the store that has this change. */
  readonly revision: number
}

/** Every bundle held, each under its own trust domain; contents of two are never mixed. */
export interface BundleStore extends BundleSource {
  /** Grows with every change. */
  readonly revision: number
  /** Replaces what is held for the bundle's own trust domain. */
  put(bundle: TrustBundle): void
  remove(trustDomain: TrustDomain): void
  /** As they stand now; a later change is not seen in it. */
  all(): ReadonlyMap<TrustDomain, TrustBundle>
  /** Called after each change, once. Returns the way to stop. */
  onChange(listener: (change: BundleChange) => void): () => void
}

/** Bundles in memory. Putting the very object that is held is no change. */
export function bundleStore(bundles: Iterable<TrustBundle> = []): BundleStore {
  const held = new Map<TrustDomain, TrustBundle>()
  for (const bundle of bundles) held.set(bundle.trustDomain, bundle)
  const listeners = new Set<(change: BundleChange) => void>()
  let revision = 0

  const changed = (trustDomain: TrustDomain) => {
    revision += 1
    const change = { trustDomain, bundle: held.get(trustDomain), revision }
    for (const listener of listeners) listener(change)
  }
  return {
    get revision() {
      return revision
    },
    bundleFor: (trustDomain) => held.get(trustDomain) ?? bundleNotFound(trustDomain),
    put(bundle) {
      if (held.get(bundle.trustDomain) === bundle) return
      held.set(bundle.trustDomain, bundle)
      changed(bundle.trustDomain)
    },
    remove(trustDomain) {
      if (held.delete(trustDomain)) changed(trustDomain)
    },
    all: () => new Map(held),
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
  }
}

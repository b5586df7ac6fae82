import type { BundleSource, TrustBundle, TrustDomain } from '../../spiffe/index.js'
import { changesOf, type Datastore } from '../datastore/datastore.js'
import { type BundleRecord, bundleTable, trustBundleOf } from './bundle-record.js'

/** Where verifiers of this process find bundles; see `trust-bundles/store.ts`. */
export interface HeldBundles extends BundleSource {
  put(bundle: TrustBundle): void
  remove(trustDomain: TrustDomain): void
}

/**
 * Keeps what is held in step with what is stored. `onLoss` is called when an authority of a trust domain
 * is gone: a new one takes nothing away from those who passed before.
 */
export function followBundles(options: {
  readonly datastore: Datastore
  readonly held: HeldBundles
  readonly onLoss: (trustDomain: TrustDomain) => void
}): void {
  const { datastore, held, onLoss } = options
  for (const record of datastore.view(bundleTable).values()) held.put(trustBundleOf(record))
  datastore.onChange((changes) => {
    const touched = changesOf(bundleTable, changes)
    for (const { before, after } of touched) {
      if (after) held.put(trustBundleOf(after))
      else if (before) held.remove(before.trustDomain)
      if (before && lostAny(before, after)) onLoss(before.trustDomain)
    }
  })
}

function lostAny(before: BundleRecord, after: BundleRecord | undefined): boolean {
  const left = after?.x509Authorities ?? []
  return before.x509Authorities.some(
    ({ der }) => !left.some((other) => Buffer.compare(other.der, der) === 0),
  )
}

import type { BundleSource, TrustBundle, TrustDomain } from '../../spiffe/index.js'
import { changesOf, type Datastore } from '../datastore/datastore.js'
import { bundleTable, trustBundleOf } from './bundle-record.js'

/** Where verifiers of this process find bundles; see `trust-bundles/store.ts`. */
export interface HeldBundles extends BundleSource {
  put(bundle: TrustBundle): void
  remove(trustDomain: TrustDomain): void
}

/** Keeps what is held in step with what is stored. `onChange` is called after each change. */
export function followBundles(options: {
  readonly datastore: Datastore
  readonly held: HeldBundles
  readonly onChange: () => void
}): void {
  const { datastore, held, onChange } = options
  for (const record of datastore.view(bundleTable).values()) held.put(trustBundleOf(record))
  datastore.onChange((changes) => {
    const touched = changesOf(bundleTable, changes)
    for (const { before, after } of touched) {
      if (after) held.put(trustBundleOf(after))
      else if (before) held.remove(before.trustDomain)
    }
    if (touched.length > 0) onChange()
  })
}

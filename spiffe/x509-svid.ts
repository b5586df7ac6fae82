import type { KeyObject } from 'node:crypto'
import type { SpiffeId } from './id.js'
import type { Certificate } from './x509-certificate.js'

/** An identity that can be proven: a leaf, the intermediates that vouch for it, and its private key. */
export interface X509Svid {
  readonly id: SpiffeId
  /** Leaf first, then intermediates, the root left out. */
  readonly chain: readonly [Certificate, ...Certificate[]]
  readonly privateKey: KeyObject
  /** The operator's label for this identity among several (Workload API §8). */
  readonly hint?: string
}

/** Where a TLS endpoint gets the SVID that it presents. A fixed value and a live watch both are one. */
export interface X509SvidSource {
  /** Throws `CS_NO_IDENTITY` while there is none. */
  x509Svid(): X509Svid
}

import {
  type BundleSource,
  SpiffeError,
  type X509Svid,
  type X509SvidSource,
} from '../spiffe/index.js'

/** The own identity and the bundles to judge others by. `X509Source` is one. */
export interface IdentitySource extends X509SvidSource, BundleSource {
  /** Calls after each change of either. Returns how to stop listening. */
  onChange(listener: () => void): () => void
}

/** The SVID to present, or undefined while there is none that could be. */
export function currentSvid(identity: IdentitySource): X509Svid | undefined {
  try {
    return identity.x509Svid()
  } catch (error) {
    if (error instanceof SpiffeError) return undefined
    throw error
  }
}

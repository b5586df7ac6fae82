import type { PeerUsage, TrustBundle } from '../../../spiffe/index.js'
import { bundle, issuer, leaf, NOW, root, type Spec } from '../x509-world.js'

/** A presented chain, what the verifier holds, and the verdict. */
export interface X509Case {
  readonly name: string
  readonly proves: string
  readonly chain: () => readonly Uint8Array[]
  readonly bundles?: () => readonly TrustBundle[]
  readonly usage?: PeerUsage
  readonly expect: string
}

export const ACCEPTED = 'accepted'
export const INVALID = 'CS_PEER_CHAIN_INVALID'
export const PROFILE = 'CS_X509_SVID_INVALID'
export const NOT_SPIFFE = 'CS_PEER_NOT_SPIFFE'
export const NO_BUNDLE = 'CS_BUNDLE_NOT_FOUND'
export const EXPIRED = 'CS_SVID_EXPIRED'

export const td = (...roots: readonly Uint8Array[]) => [bundle('td.example', roots)]
export const usual = (spec: Spec = {}) => [leaf(spec), issuer()]
export const now = NOW.getTime()

/** A leaf that is odd in one way, under a good chain. */
export const leafCase = (
  title: string,
  proves: string,
  spec: () => Spec,
  verdict: string,
): X509Case => ({
  name: title,
  proves,
  chain: () => usual(spec()),
  expect: verdict,
})

/** An intermediate that is odd in one way. */
export const issuerCase = (
  title: string,
  proves: string,
  spec: () => Spec,
  verdict: string,
): X509Case => ({
  name: title,
  proves,
  chain: () => [leaf(), issuer(spec())],
  expect: verdict,
})

/** A root that is odd in one way. */
export const rootCase = (
  title: string,
  proves: string,
  spec: () => Spec,
  verdict: string,
): X509Case => ({
  name: title,
  proves,
  chain: () => usual(),
  bundles: () => td(root(spec())),
  expect: verdict,
})

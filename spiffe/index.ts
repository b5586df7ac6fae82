/**
 * What the SPIFFE standards say, as types and functions: IDs, SVIDs and their profiles, path validation,
 * bundles, tokens. It opens no file, keeps no time and reads no environment: bytes, bundles and `now` come in
 * as arguments, and refusals go out as a {@link SpiffeError} with a code.
 *
 * ```ts
 * const bundles = bundleSet([readBundleDocument(bytes, parseTrustDomain('prod.example'))])
 * const verifier = peerVerifier({ bundles })
 * const peer = verifier.verify(chain, now, 'client') // against the bundle of the peer's trust domain alone
 * authorize.id(parseSpiffeId('spiffe://prod.example/shop'))(peer.id)
 * ```
 *
 * The Workload API client (`workload-api/`) and the helpers for TLS (`tls/`), gRPC (`grpc/`) and DER
 * (`asn1/`) have entrances of their own.
 */
export { type Authorize, authorize } from './authorize.js'
export {
  type BundleSource,
  bundleNotFound,
  bundleSet,
  type JwtAuthority,
  type TrustBundle,
} from './bundle.js'
export {
  type BundleReadOptions,
  jwtKeySetOf,
  readBundleDocument,
  readJwtKeySet,
  writeBundleDocument,
} from './bundle-format.js'
export { type BundleMap, readBundleMap, writeBundleMap } from './bundle-map.js'
export { type Reason, SpiffeError, type SpiffeErrorCode, spiffeReasons } from './errors.js'
export {
  idOfTrustDomain,
  isMemberOf,
  makeSpiffeId,
  parseSpiffeId,
  parseTrustDomain,
  parseWorkloadId,
  pathOf,
  type SpiffeId,
  type TrustDomain,
  trustDomainOf,
} from './id.js'
export { type DecodedJwt, decodeJwt } from './jwt-decode.js'
export { type JwtSvid, type JwtVerification, verifyJwtSvid } from './jwt-svid.js'
export { type PeerVerifier, peerVerifier } from './peer-verifier.js'
export { certificatesFromPem, toPem } from './pem.js'
export { spiffeStandards } from './standards.js'
export type { Certificate, NameConstraints } from './x509-certificate.js'
export { parseCertificate, splitCertificates } from './x509-parse.js'
export type { PeerUsage } from './x509-path-checks.js'
export {
  assertIssuedLeafProfile,
  assertLeafProfile,
  extendedKeyUsages,
  keyUsages,
  spiffeIdIn,
} from './x509-profile.js'
export {
  parseX509Svid,
  type X509Svid,
  type X509SvidParts,
  type X509SvidSource,
} from './x509-svid.js'
export { type VerifiedPeer, verifyX509Svid, type X509Verification } from './x509-verify.js'

/**
 * What the SPIFFE standards say, as types and functions: IDs, SVIDs, profiles, path validation, bundles.
 * The Workload API client and the TLS and gRPC helpers have entrances of their own.
 */
export { type Authorize, authorize } from './authorize.js'
export {
  type BundleSource,
  bundleNotFound,
  bundleSet,
  type JwtAuthority,
  type TrustBundle,
} from './bundle.js'
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
export { certificatesFromPem, toPem } from './pem.js'
export type { Certificate, NameConstraints } from './x509-certificate.js'
export { parseCertificate, splitCertificates } from './x509-parse.js'
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

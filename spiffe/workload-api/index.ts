/** The client of the SPIFFE Workload API, and the wire format that its servers need too. */
export { nodeRuntime, type Runtime, type RuntimeClock } from '../runtime.js'
export {
  ENDPOINT_VARIABLE,
  type EndpointAddress,
  formatEndpointAddress,
  grpcTarget,
  parseEndpointAddress,
} from './address.js'
export {
  type FetchJwtOptions,
  type ValidateJwtOptions,
  type WorkloadApiClient,
  type WorkloadApiOptions,
  workloadApiClient,
} from './client.js'
export {
  JWTBundlesRequest,
  JWTBundlesResponse,
  JWTSVID,
  JWTSVIDRequest,
  JWTSVIDResponse,
  SpiffeWorkloadAPIClient,
  type SpiffeWorkloadAPIServer,
  SpiffeWorkloadAPIService,
  ValidateJWTSVIDRequest,
  ValidateJWTSVIDResponse,
  WITBundlesRequest,
  WITBundlesResponse,
  WITSVIDRequest,
  WITSVIDResponse,
  X509BundlesRequest,
  X509BundlesResponse,
  X509SVID,
  X509SVIDRequest,
  X509SVIDResponse,
} from './gen/workload.js'
export type { JwtBundles, OwnJwtSvid, ValidatedJwt } from './jwt-messages.js'
export { JwtSource, type JwtSourceOptions, type VerifyJwtOptions } from './jwt-source.js'
export type { ClientLog, WatchListener } from './watch.js'
export { type PickSvid, pickByHint } from './x509-holder.js'
export type { X509Bundles, X509Context } from './x509-messages.js'
export { X509Source, type X509SourceOptions } from './x509-source.js'

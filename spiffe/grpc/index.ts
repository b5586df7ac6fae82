/** gRPC over TLS between SPIFFE identities. */
export { type SpiffeChannelOptions, spiffeChannelCredentials } from './channel-credentials.js'

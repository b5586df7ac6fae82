/**
 * TLS between workloads on `node:tls`. The handshake proves possession of a key and nothing more; who the
 * peer is, {@link verifyTlsPeer} says, against the bundle of the peer's own trust domain.
 */
export {
  type ConnectTlsOptions,
  connectTls,
  type TlsConnection,
  type TlsTarget,
} from './connect.js'
export { secureContextOf, serverTlsOptions } from './context.js'
export { presentedChain, type TlsPeerOptions, verifyTlsPeer } from './peer.js'

import { constants } from 'node:crypto'
import {
  createSecureContext,
  type SecureContext,
  type SecureContextOptions,
  type TlsOptions,
} from 'node:tls'
import { toPem, type X509Svid } from '../index.js'

const HANDSHAKE_TIMEOUT_MS = 10_000

/**
 * What every endpoint sets, with an identity or without one. TLS itself trusts nobody: its one list of
 * roots would let any trust domain vouch for every other, so chains are verified after the handshake, by
 * {@link verifyTlsPeer}. Nothing is resumed, because resuming skips certificates.
 */
export function secureContextOf(svid: X509Svid | undefined): SecureContextOptions {
  return {
    ca: [],
    minVersion: 'TLSv1.3',
    secureOptions: constants.SSL_OP_NO_TICKET,
    ...(svid && credentialsOf(svid)),
  }
}

/** For `tls.createServer`. Every accepted socket still has to pass {@link verifyTlsPeer}: TLS lets all in. */
export function serverTlsOptions(svid: X509Svid): TlsOptions {
  return {
    ...secureContextOf(svid),
    requestCert: true,
    rejectUnauthorized: false,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
  }
}

const contexts = new WeakMap<X509Svid, SecureContext>()
let anonymous: SecureContext | undefined

/** The context of a client, made once for each SVID: importing keys costs more than a handshake. */
export function clientContext(svid: X509Svid | undefined): SecureContext {
  if (svid === undefined) {
    anonymous ??= createSecureContext(secureContextOf(undefined))
    return anonymous
  }
  const held = contexts.get(svid)
  if (held) return held
  const made = createSecureContext(secureContextOf(svid))
  contexts.set(svid, made)
  return made
}

function credentialsOf({ chain, privateKey }: X509Svid) {
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    cert: chain.map(({ der }) => toPem('CERTIFICATE', der)).join(''),
  }
}

/** One row of the reason-code registry: what `docs/errors.md` prints and the command line shows. */
export interface Reason {
  readonly severity: 'info' | 'warning' | 'error' | 'critical'
  /** What happened: one sentence, no secret. */
  readonly what: string
  /** What to do about it: a sentence or a command. */
  readonly todo: string
}

/** Input that breaks a SPIFFE standard, and what a client of the Workload API can run into. */
export const spiffeReasons = {
  CS_SPIFFE_ID_INVALID: {
    severity: 'error',
    what: 'A SPIFFE ID or trust domain name breaks the rules of the SPIFFE-ID standard.',
    todo: 'Write it as spiffe://<trust domain>/<path>, in lower-case scheme and trust domain, without an empty or dot segment.',
  },
  CS_DER_MALFORMED: {
    severity: 'error',
    what: 'Bytes that should be DER are not: a length, a tag or a value is not in its one permitted form.',
    todo: 'Check where the bytes come from; PEM and BER must be converted to DER first.',
  },
  CS_CERTIFICATE_MALFORMED: {
    severity: 'error',
    what: 'Bytes that should be a DER certificate are not one.',
    todo: 'Check where the certificate comes from; PEM must be converted to DER first.',
  },
  CS_X509_SVID_INVALID: {
    severity: 'error',
    what: 'A certificate breaks the X509-SVID profile, or its key does not belong to it.',
    todo: 'Run countersign inspect on the certificate and compare it with the message.',
  },
  CS_PEER_NOT_SPIFFE: {
    severity: 'error',
    what: 'The peer presented no certificate, or one without exactly one SPIFFE ID.',
    todo: 'Give the peer an X509-SVID and let it present it in the handshake.',
  },
  CS_PEER_CHAIN_INVALID: {
    severity: 'error',
    what: 'The certificate chain of the peer does not lead to an authority of its own trust domain.',
    todo: 'Check that the peer sends its intermediates and that both sides hold the same bundle.',
  },
  CS_PEER_NOT_AUTHORIZED: {
    severity: 'error',
    what: 'The peer proved a SPIFFE ID that is not one of those expected.',
    todo: 'Compare the SPIFFE ID in the message with the ones that are configured.',
  },
  CS_SVID_EXPIRED: {
    severity: 'error',
    what: 'A certificate is used outside of its validity.',
    todo: 'Compare the clocks of both machines; if they agree, find out why the SVID was not renewed.',
  },
  CS_BUNDLE_INVALID: {
    severity: 'error',
    what: 'A trust bundle document cannot be used.',
    todo: 'Fetch the bundle again from its source; a bundle is a JWK Set as the SPIFFE standard describes it.',
  },
  CS_BUNDLE_NOT_FOUND: {
    severity: 'error',
    what: 'There is no trust bundle for the trust domain of this SPIFFE ID.',
    todo: 'Federate with that trust domain, or correct the SPIFFE ID.',
  },
  CS_JWT_SVID_INVALID: {
    severity: 'error',
    what: 'A token is not a valid JWT-SVID.',
    todo: 'Run countersign inspect on the token; the message names the check that failed.',
  },
  CS_JWT_ALG_NOT_ALLOWED: {
    severity: 'error',
    what: 'A token is signed with an algorithm that JWT-SVIDs may not use.',
    todo: 'Sign with one of RS256, RS384, RS512, ES256, ES384, ES512, PS256, PS384 or PS512.',
  },
  CS_JWT_AUDIENCE_MISMATCH: {
    severity: 'error',
    what: 'A token is meant for another audience.',
    todo: 'Ask for a token with the audience of the service that validates it.',
  },
  CS_JWT_KEY_UNKNOWN: {
    severity: 'error',
    what: 'A token is signed by a key that is not in the bundle of its trust domain.',
    todo: 'Wait for the bundle to arrive, or find out who issued the token.',
  },
  CS_JWT_EXPIRED: {
    severity: 'error',
    what: 'A token is used outside of its validity.',
    todo: 'Fetch a new token; if it is new, compare the clocks of both machines.',
  },
  CS_SOCKET_INVALID: {
    severity: 'error',
    what: 'The address of the Workload API is missing or is not a SPIFFE endpoint address.',
    todo: 'Set SPIFFE_ENDPOINT_SOCKET to unix:///path/to/socket or tcp://<ip>:<port>.',
  },
  CS_SOCKET_MISSING: {
    severity: 'error',
    what: 'Nothing listens at the address of the Workload API.',
    todo: 'Start the agent, or correct SPIFFE_ENDPOINT_SOCKET.',
  },
  CS_SOCKET_DENIED: {
    severity: 'error',
    what: 'The socket of the Workload API may not be opened by this user.',
    todo: 'Check the permissions of the socket and of the folders above it.',
  },
  CS_ENDPOINT_UNAVAILABLE: {
    severity: 'error',
    what: 'The Workload API does not answer, or is not ready yet.',
    todo: 'Look at the log and at /readyz of the agent.',
  },
  CS_ENDPOINT_REFUSED: {
    severity: 'error',
    what: 'The Workload API refused the request itself, so repeating it cannot help.',
    todo: 'Check the request against the message; an audience is mandatory, for example.',
  },
  CS_NO_IDENTITY: {
    severity: 'error',
    what: 'The Workload API issues no identity to this process.',
    todo: 'Run countersign explain identity to see the selectors found and the nearest registration entry.',
  },
  CS_RESPONSE_INVALID: {
    severity: 'error',
    what: 'The Workload API sent a message that breaks the standard; the last good state stays in force.',
    todo: 'Report the message to whoever runs the endpoint.',
  },
} as const satisfies Record<string, Reason>

export type SpiffeErrorCode = keyof typeof spiffeReasons

/** Input that breaks a SPIFFE standard. `code` is stable; `message` is for people and may change. */
export class SpiffeError extends Error {
  override readonly name = 'SpiffeError'
  readonly code: SpiffeErrorCode

  constructor(code: SpiffeErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

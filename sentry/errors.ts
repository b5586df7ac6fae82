import type { Reason } from '../spiffe/index.js'

/** Why the sentry refuses: to issue, to start, or to use an authority. */
export const sentryReasons = {
  CS_CSR_MALFORMED: {
    severity: 'error',
    what: 'A certificate signing request is not a DER PKCS#10 request.',
    todo: 'Send the request as DER, without PEM armour and with nothing behind it.',
  },
  CS_CSR_KEY_NOT_PROVEN: {
    severity: 'error',
    what: 'A certificate signing request is not signed by the key it asks a certificate for.',
    todo: 'Sign the request with the private half of the key that is in it.',
  },
  CS_CSR_KEY_NOT_ALLOWED: {
    severity: 'error',
    what: 'A certificate signing request holds a key of a kind that gets no certificate here.',
    todo: 'Use EC P-256, P-384 or P-521, RSA with 2048 to 4096 bits, or Ed25519.',
  },
  CS_ISSUE_REQUEST_INVALID: {
    severity: 'error',
    what: 'What an SVID is to say cannot be said in one.',
    todo: 'Correct the SPIFFE ID, the DNS names, the audience or the lifetime named in the message.',
  },
  CS_ISSUE_CHECK_FAILED: {
    severity: 'critical',
    what: 'A freshly signed SVID does not say what was asked, so it was not handed out.',
    todo: 'Report this with the message: it is a defect of the sentry or of its key store.',
  },
  CS_AUTHORITY_NOT_VALID: {
    severity: 'critical',
    what: 'The clock is outside of the validity of the signing authority, so nothing is signed.',
    todo: 'Compare the clock of this machine with another; the message says how far it is off.',
  },
  CS_AUTHORITY_FILE_INVALID: {
    severity: 'critical',
    what: 'The sealed file of the authorities opens, but what is in it cannot be used.',
    todo: 'Restore the file from a backup; the sentry never replaces authorities by itself.',
  },
  CS_TTL_TOO_LONG: {
    severity: 'error',
    what: 'A lifetime is set that the authority above it cannot hold.',
    todo: 'Shorten it to the number in the message, or lengthen the lifetime of the authority.',
  },
} as const satisfies Record<string, Reason>

export type SentryErrorCode = keyof typeof sentryReasons

/** What the sentry refuses. `code` is stable; `message` is for people and may change. */
export class SentryError extends Error {
  override readonly name = 'SentryError'
  readonly code: SentryErrorCode

  constructor(code: SentryErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

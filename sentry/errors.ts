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
  CS_REQUEST_INVALID: {
    severity: 'error',
    what: 'A request to the sentry lacks something or holds something that cannot be.',
    todo: 'Correct the request as the message says; repeating it unchanged cannot help.',
  },
  CS_CALLER_NOT_ALLOWED: {
    severity: 'warning',
    what: 'The caller may not use this method of the sentry.',
    todo: 'Use the admin socket, or an SVID of an entry with the admin flag; agents may call only what agents need.',
  },
  CS_AGENT_EXPIRED: {
    severity: 'warning',
    what: 'The certificate of an agent expired while its connection was open.',
    todo: 'Find out why the agent did not renew; compare the clocks of both machines.',
  },
  CS_AGENT_NOT_ATTESTED: {
    severity: 'warning',
    what: 'The caller holds a certificate of this trust domain but is no agent that the sentry knows.',
    todo: 'Attest the agent again, for example with a join token; it may have been evicted.',
  },
  CS_AGENT_NOT_ACTIVE: {
    severity: 'critical',
    what: 'An agent uses a certificate that has been replaced by a newer one.',
    todo: 'Look for a second process or a copied state folder with the same identity; evict the agent and attest again.',
  },
  CS_AGENT_BANNED: {
    severity: 'warning',
    what: 'The agent is banned.',
    todo: 'Evict the agent to lift the ban, then attest it again.',
  },
  CS_AGENT_MUST_REATTEST: {
    severity: 'info',
    what: 'The agent can attest again, so it may not renew.',
    todo: 'Nothing: agents that can do so attest again by themselves.',
  },
  CS_AGENT_NOT_FOUND: {
    severity: 'error',
    what: 'There is no attested agent with this SPIFFE ID.',
    todo: 'Compare the SPIFFE ID with those that countersign agent list prints.',
  },
  CS_ATTESTOR_UNKNOWN: {
    severity: 'error',
    what: 'An agent attests in a way that this sentry does not offer.',
    todo: 'Use a join token.',
  },
  CS_ATTESTATION_INVALID: {
    severity: 'error',
    what: 'An attestation is incomplete or out of order.',
    todo: 'Compare the versions of agent and sentry; the message names what is missing.',
  },
  CS_JOIN_TOKEN_INVALID: {
    severity: 'warning',
    what: 'A join token does not exist or has been used before.',
    todo: 'Create a new one with countersign token generate. If nobody used it, find out who did.',
  },
  CS_JOIN_TOKEN_EXPIRED: {
    severity: 'warning',
    what: 'A join token was used after its time.',
    todo: 'Create a new one with countersign token generate.',
  },
  CS_JOIN_TOKEN_EXISTS: {
    severity: 'error',
    what: 'A join token with the given value exists already.',
    todo: 'Let the sentry choose the value.',
  },
  CS_ENTRY_INVALID: {
    severity: 'error',
    what: 'A registration entry breaks a rule.',
    todo: 'Correct the field named in the message.',
  },
  CS_ENTRY_EXISTS: {
    severity: 'error',
    what: 'A registration entry with the same id, or the same SPIFFE ID, parent and selectors, exists already.',
    todo: 'Update the existing entry instead; countersign entry list shows it.',
  },
  CS_ENTRY_NOT_FOUND: {
    severity: 'error',
    what: 'There is no such registration entry, or the caller may not issue for it.',
    todo: 'Compare the id with countersign entry list, and the parent of the entry with the SPIFFE ID of the agent.',
  },
  CS_FEDERATED_BUNDLE_MISSING: {
    severity: 'error',
    what: 'An entry federates with a trust domain whose bundle the sentry does not hold.',
    todo: 'Set the bundle of that trust domain first.',
  },
  CS_BUNDLE_EXISTS: {
    severity: 'error',
    what: 'A bundle of that trust domain is stored already.',
    todo: 'Update or set it instead of creating it.',
  },
  CS_BUNDLE_IN_USE: {
    severity: 'error',
    what: 'A bundle cannot be deleted while registration entries federate with its trust domain.',
    todo: 'Delete with the mode that dissociates or deletes those entries, or change them first.',
  },
  CS_POLICY_NOT_FOUND: {
    severity: 'error',
    what: 'There is no such policy document or policy target.',
    todo: 'Compare the name with countersign policy list; a target is the SPIFFE ID of a registration entry.',
  },
  CS_RATE_LIMITED: {
    severity: 'warning',
    what: 'A caller asks more often than it may.',
    todo: 'Wait as long as the answer says and spread the calls; the limits are configurable.',
  },
  CS_FEATURE_OFF: {
    severity: 'info',
    what: 'This sentry does not offer that feature.',
    todo: 'Nothing on the side of the caller; the message names the feature.',
  },
  CS_SHUTTING_DOWN: {
    severity: 'info',
    what: 'The sentry is stopping.',
    todo: 'Try again, or use another sentry.',
  },
  CS_INTERNAL: {
    severity: 'critical',
    what: 'The sentry failed in a way that it does not know.',
    todo: 'Report the lines of its log around that time: this is a defect.',
  },
  CS_SOCKET_IN_USE: {
    severity: 'critical',
    what: 'Another process answers on the admin socket.',
    todo: 'Stop the other sentry, or configure another path for the socket.',
  },
  CS_DATASTORE_CORRUPT: {
    severity: 'critical',
    what: 'The datastore is damaged; it was not opened and nothing in it was changed.',
    todo: 'Restore the file from a backup, or move it away together with its -wal file to start with an empty one.',
  },
  CS_DATASTORE_TOO_NEW: {
    severity: 'critical',
    what: 'The datastore was written by a newer version of Countersign.',
    todo: 'Run the newer version again, or restore a backup of the older one.',
  },
  CS_DATASTORE_FOREIGN: {
    severity: 'critical',
    what: 'The datastore belongs to another trust domain than the configured one.',
    todo: 'Correct the trust domain or the data folder; nothing was changed.',
  },
  CS_DATASTORE_UNAVAILABLE: {
    severity: 'critical',
    what: 'A change could not be written to the datastore; issuing from memory goes on.',
    todo: 'Check free space and permissions of the data folder and look at the log of the sentry.',
  },
  CS_AUDIT_BROKEN: {
    severity: 'critical',
    what: 'The audit log does not end in a record that belongs to its chain.',
    todo: 'Keep a copy of the file as evidence and move it away; the sentry then starts a new chain.',
  },
  CS_AUDIT_UNWRITABLE: {
    severity: 'critical',
    what: 'Audit records cannot be written; they are kept in memory up to a limit.',
    todo: 'Check free space and permissions of the audit log.',
  },
  CS_CLOCK_WENT_BACK: {
    severity: 'critical',
    what: 'The clock is behind the time of the last recorded change.',
    todo: 'Set the clock, for example with NTP; the message says by how much it is off at least.',
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

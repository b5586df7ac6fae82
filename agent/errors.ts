import type { Reason } from '../spiffe/index.js'

/** What can keep an agent from its sentry, its state or a caller. */
export const agentReasons = {
  CS_SENTRY_UNAVAILABLE: {
    severity: 'warning',
    what: 'No sentry answers, so nothing new can be issued; what is in hand is served until it expires.',
    todo: 'Check that a sentry runs at one of the configured addresses and that the network lets the agent through.',
  },
  CS_SENTRY_RESPONSE_INVALID: {
    severity: 'error',
    what: 'The sentry sent something that cannot be used; what was held before stays in force.',
    todo: 'Compare the versions of agent and sentry and report the message.',
  },
  CS_CLOCK_SKEWED: {
    severity: 'critical',
    what: 'The clock of this machine and that of the sentry are too far apart for certificates to be valid on both.',
    todo: 'Set the clocks, for example with NTP; the message says by how much they differ.',
  },
  CS_BANNED_BY_SENTRY: {
    severity: 'critical',
    what: 'The sentry has banned this agent, so it serves nothing any more.',
    todo: 'Evict the agent on the sentry and give it a new join token, if it may come back.',
  },
  CS_UNKNOWN_TO_SENTRY: {
    severity: 'critical',
    what: 'The sentry has no record of this agent, because it was evicted or the sentry is a new one.',
    todo: 'Create a join token on the sentry and start the agent with it.',
  },
  CS_OWN_SVID_EXPIRED: {
    severity: 'critical',
    what: 'The certificate of the agent itself has expired, so it can no longer renew it.',
    todo: 'Create a join token on the sentry and start the agent with it; look at the log for why renewal failed.',
  },
  CS_OWN_SVID_SUPERSEDED: {
    severity: 'critical',
    what: 'The sentry knows a newer certificate for this agent: another process uses the same identity.',
    todo: 'Find the second agent or a copy of the state folder; evict the agent and attest again with a new join token.',
  },
  CS_REATTESTATION_REQUIRED: {
    severity: 'error',
    what: 'The sentry wants this agent to attest again instead of renewing.',
    todo: 'Give the agent new evidence, for example a join token.',
  },
  CS_ATTESTATION_REJECTED: {
    severity: 'critical',
    what: 'The sentry did not accept the evidence of this agent.',
    todo: 'Create a new join token; one can be used once, and only for a short time.',
  },
  CS_EVIDENCE_MISSING: {
    severity: 'critical',
    what: 'The agent has no identity yet and was given nothing to attest with.',
    todo: 'Create a join token with countersign token generate and start the agent with it.',
  },
  CS_ISSUANCE_REFUSED: {
    severity: 'error',
    what: 'The sentry refused to issue an SVID for an entry.',
    todo: 'Look at the log and the audit log of the sentry for the entry in the message.',
  },
  CS_ENTRY_WITHDRAWN: {
    severity: 'error',
    what: 'A registration entry is no longer one this agent may issue for.',
    todo: 'Create the entry again, or correct its parent, if the workload is to keep its identity.',
  },
  CS_STATE_UNREADABLE: {
    severity: 'critical',
    what: 'The sealed state of the agent opens, but what is in it cannot be used.',
    todo: 'Move the file away and start the agent with a new join token; the message names the file.',
  },
  CS_STATE_FOREIGN: {
    severity: 'critical',
    what: 'The sealed state of the agent belongs to another trust domain than the configured one.',
    todo: 'Correct the trust domain or the data folder; nothing was overwritten.',
  },
} as const satisfies Record<string, Reason>

export type AgentErrorCode = keyof typeof agentReasons

/** What the agent cannot do. `code` is stable; `message` is for people and may change. */
export class AgentError extends Error {
  override readonly name = 'AgentError'
  readonly code: AgentErrorCode

  constructor(code: AgentErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

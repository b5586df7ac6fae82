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
  CS_TRUST_BUNDLE_MISSING: {
    severity: 'critical',
    what: 'The agent has no trust bundle by which it could know its sentry.',
    todo: 'Fetch the bundle with countersign bundle show on the sentry, bring it here by a way you trust, and configure it.',
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
  CS_PLATFORM_UNSUPPORTED: {
    severity: 'critical',
    what: 'This system cannot tell the agent for certain which process is at the other end of a socket.',
    todo: 'Run the agent on Linux 5.3 or newer on x64 or arm64; 6.5 or newer closes the last race. In a container, allow the system call pidfd_open.',
  },
  CS_PROC_UNUSABLE: {
    severity: 'critical',
    what: 'The /proc that the agent sees does not belong to the processes it is to attest.',
    todo: 'Mount /proc for the PID namespace of the agent; in a container, share the PID namespace of the host.',
  },
  CS_SECURITY_HEADER_MISSING: {
    severity: 'warning',
    what: 'A request on the local socket did not carry the metadata that every SPIFFE client sends.',
    todo: 'Send the metadata workload.spiffe.io with the value true, exactly once.',
  },
  CS_CALLER_NOT_ATTESTED: {
    severity: 'warning',
    what: 'The process that opened the connection is gone, or is no longer what it was when it did.',
    todo: 'Open the connection from the process that is to get the identity, after it has taken its final user and groups.',
  },
  CS_CALLER_CHANGED: {
    severity: 'warning',
    what: 'The process that opened the connection runs another program now, which gets nothing through it.',
    todo: 'Let the new program open a connection of its own.',
  },
  CS_ATTESTORS_FAILED: {
    severity: 'error',
    what: 'No attestor could say anything about a caller.',
    todo: 'Look at the log of the agent for what each attestor ran into.',
  },
  CS_IDENTITIES_NOT_READY: {
    severity: 'warning',
    what: 'The agent serves no identities yet: it has neither reached its sentry nor found sealed state.',
    todo: 'Wait for the first contact with the sentry; look at /readyz and the log of the agent if it does not come.',
  },
  CS_AGENT_STOPPING: {
    severity: 'info',
    what: 'The agent is shutting down and has ended its streams.',
    todo: 'Nothing, if the agent is meant to restart; clients come back by themselves.',
  },
  CS_AGENT_BROKEN: {
    severity: 'critical',
    what: 'A part of the agent has stopped for a reason that was not foreseen; what is in hand is served, but no longer renewed for certain.',
    todo: 'Restart the agent, which keeps its sealed state, and report the line in its log.',
  },
  CS_AUDIENCE_MISSING: {
    severity: 'error',
    what: 'A JWT-SVID was asked for or is to be validated without an audience.',
    todo: 'Name at least one audience, none of them empty.',
  },
  CS_TOKEN_MISSING: {
    severity: 'error',
    what: 'A request to validate a token holds no token.',
    todo: 'Send the JWT-SVID in the field svid.',
  },
  CS_PROFILE_NOT_OFFERED: {
    severity: 'info',
    what: 'The agent does not offer this profile of the Workload API.',
    todo: 'Use X.509-SVIDs or JWT-SVIDs.',
  },
  CS_FOLLOW_MALFORMED: {
    severity: 'error',
    what: 'A sidecar follows its policy with messages in the wrong order or about another target.',
    todo: 'Compare the versions of agent and sidecar.',
  },
  CS_NOT_THE_CALLER: {
    severity: 'warning',
    what: 'A process asked about another process on the public socket.',
    todo: 'Ask on the private socket of the agent, as its user or as root.',
  },
  CS_PROCESS_NOT_FOUND: {
    severity: 'warning',
    what: 'There is no process with this id, or the agent may not look at it.',
    todo: 'Check the process id; it is the one that the agent sees, not one inside a container.',
  },
  CS_CONNECTION_LIMIT: {
    severity: 'warning',
    what: 'A user, or all users together, has more connections to the local socket open than allowed.',
    todo: 'Let the program keep one connection instead of opening many, or raise the limit.',
  },
  CS_CALL_LIMIT: {
    severity: 'warning',
    what: 'A call has larger headers than allowed, or its user has more calls open than allowed.',
    todo: 'Let the program keep one stream instead of opening many, or raise the limit.',
  },
  CS_SOCKET_PATH_INVALID: {
    severity: 'critical',
    what: 'A local socket cannot have this path.',
    todo: 'Use an absolute path of at most 107 bytes at which there is nothing but a socket.',
  },
  CS_SOCKET_FOLDER_UNSAFE: {
    severity: 'critical',
    what: 'Any user could replace a local socket, because everyone may write to its folder.',
    todo: 'Take the write permission for others from the folder in the message, or choose another one.',
  },
  CS_SOCKET_TAKEN: {
    severity: 'critical',
    what: 'Another process already answers on the local socket.',
    todo: 'Stop the other agent, or give this one a socket of its own.',
  },
  CS_SOCKET_SELECTOR_INVALID: {
    severity: 'critical',
    what: 'A socket is to vouch for something that only an attestor may say.',
    todo: 'Give sockets selectors of a type of their own, such as socket:orders.',
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

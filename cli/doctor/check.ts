import type { Reason } from '../../spiffe/index.js'

/** What `countersign doctor` can find. Each finding names the check it comes from. */
export const findingReasons = {
  CS_CHECK_NODE_VERSION: {
    severity: 'warning',
    what: 'Node is older than what is supported, or a version that nobody has tested.',
    todo: 'Install Node 20.19 or later.',
  },
  CS_CHECK_SENTRY: {
    severity: 'error',
    what: 'The sentry does not answer, or is not well.',
    todo: 'Look at its log and at /readyz on its admin address.',
  },
  CS_CHECK_ROOT_EXPIRY: {
    severity: 'warning',
    what: 'A root certificate has fewer than 60 days left, or is past its end.',
    todo: 'Find out why no successor was made; look at the log of the sentry.',
  },
  CS_CHECK_AGENTS: {
    severity: 'warning',
    what: 'No agent is attested, or an agent is banned or has let its SVID expire.',
    todo: 'Run countersign agent list.',
  },
  CS_CHECK_AGENT: {
    severity: 'error',
    what: 'The agent on this machine does not answer, or has no valid SVID of its own.',
    todo: 'Look at its log and at /readyz on its admin address.',
  },
  CS_CHECK_AGENT_SYNC: {
    severity: 'warning',
    what: 'The agent is not connected to a sentry and serves what it held before.',
    todo: 'Check that the sentry runs and that this machine reaches its address.',
  },
  CS_CHECK_IDENTITY: {
    severity: 'info',
    what: 'The Workload API issues no identity to this process; for a shell of an operator that is as it should be.',
    todo: 'Run countersign explain identity for what would change it.',
  },
  CS_CHECK_CLOCK: {
    severity: 'error',
    what: 'The clock of this machine differs from that of whoever signed its certificates.',
    todo: 'Let NTP set the clock on both machines.',
  },
} as const satisfies Record<string, Reason>

export type CheckCode = keyof typeof findingReasons

/** What one check came to. `passed` or not, `text` says what was seen. */
export interface Finding {
  readonly code: CheckCode
  readonly passed: boolean
  readonly text: string
}

export const passed = (code: CheckCode, text: string): Finding => ({ code, passed: true, text })
export const failed = (code: CheckCode, text: string): Finding => ({ code, passed: false, text })

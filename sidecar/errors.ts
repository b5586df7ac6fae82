import type { Reason } from '../spiffe/index.js'

/** What keeps a sidecar from starting or from changing over to something new. */
export const sidecarReasons = {
  CS_TUNNEL_INVALID: {
    severity: 'error',
    what: 'A listener of the sidecar is not configured in a way that can be used safely.',
    todo: 'Correct the setting in the message; docs/sidecar.md shows what each takes.',
  },
  CS_SIDECAR_NOT_READY: {
    severity: 'critical',
    what: 'The sidecar got no SVID or no policy in the time it waits for them.',
    todo: 'Look at the address of the Workload API in the message, at /readyz of the agent and at countersign explain identity.',
  },
  CS_SNAPSHOT_UNTRUSTED: {
    severity: 'critical',
    what: 'A policy snapshot is not signed by the policy signer of the own trust domain; the last good one stays in force.',
    todo: 'Find out who sends it. If the trust domain was set up anew, remove the saved snapshot.',
  },
  CS_SNAPSHOT_OUTDATED: {
    severity: 'warning',
    what: 'A policy snapshot is older than the one in force, which stays.',
    todo: 'If the sentry was restored from a backup, apply a policy once more; else look at which sentry the agent talks to.',
  },
  CS_SNAPSHOT_MISDIRECTED: {
    severity: 'error',
    what: 'A policy snapshot is meant for another app; the last good one stays in force.',
    todo: 'Report it: the agent must not hand it to this sidecar.',
  },
  CS_POLICY_UNAVAILABLE: {
    severity: 'warning',
    what: 'The agent does not send the policy; the last good one stays in force.',
    todo: 'Look at the log and at /readyz of the agent.',
  },
  CS_XFCC_MALFORMED: {
    severity: 'error',
    what: 'An x-forwarded-client-cert header is not one.',
    todo: 'Look at which proxy has written it.',
  },
} as const satisfies Record<string, Reason>

export type SidecarErrorCode = keyof typeof sidecarReasons

/** What keeps a sidecar from working. `code` is stable; `message` is for people and may change. */
export class SidecarError extends Error {
  override readonly name = 'SidecarError'
  readonly code: SidecarErrorCode

  constructor(code: SidecarErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

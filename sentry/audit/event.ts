/** What is worth a record: past tense and a version, as a CloudEvents type ends. */
export type AuditType =
  | 'svid.issued.v1'
  | 'svid.denied.v1'
  | 'agent.attested.v1'
  | 'agent.denied.v1'
  | 'agent.banned.v1'
  | 'agent.evicted.v1'
  | 'token.created.v1'
  | 'entry.changed.v1'
  | 'bundle.changed.v1'
  | 'policy.changed.v1'
  | 'ca.rotation.phase.v1'
  | 'call.denied.v1'
  | 'sentry.started.v1'
  | 'sentry.stopped.v1'
  | 'audit.gap.v1'

/** One thing that happened. Never holds a key, a token or a request: serials, hashes and names only. */
export interface AuditEvent {
  readonly type: AuditType
  /** Whom or what it is about, mostly a SPIFFE ID. */
  readonly subject?: string
  /** Who asked for it: a SPIFFE ID, or `local` for the admin socket. */
  readonly requester?: string
  /** Reason code of a refusal. */
  readonly code?: string
  readonly details?: Readonly<Record<string, AuditDetail>>
}

export type AuditDetail = string | number | boolean | readonly string[]

/** Takes events in the order in which they happen; the sink stamps them with an id and the time. */
export interface AuditSink {
  record(event: AuditEvent): void
}

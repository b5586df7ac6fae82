import { status } from '@grpc/grpc-js'
import { SpiffeError, type SpiffeErrorCode } from '../../spiffe/index.js'
import { AgentError, type AgentErrorCode } from '../errors.js'

/** What a caller is told. The text is fixed; the reason is in the log. */
export interface Reply {
  readonly code: status
  readonly details: string
}

export type LocalErrorCode = AgentErrorCode | SpiffeErrorCode
export type Replies = Partial<Record<LocalErrorCode, Reply>>

const noIdentity = { code: status.PERMISSION_DENIED, details: 'no identity issued' }
const notYet = { code: status.UNAVAILABLE, details: 'identity is not available yet' }
const unusable = (details: string) => ({ code: status.INVALID_ARGUMENT, details })

const replies: Replies = {
  CS_SECURITY_HEADER_MISSING: unusable('security header missing'),
  CS_AUDIENCE_MISSING: unusable('audience must be specified'),
  CS_TOKEN_MISSING: unusable('svid must be specified'),
  CS_SPIFFE_ID_INVALID: unusable('spiffe_id is not a SPIFFE ID'),
  CS_FOLLOW_MALFORMED: unusable('message does not belong to the stream'),
  CS_CALL_LIMIT: { code: status.RESOURCE_EXHAUSTED, details: 'too much at once' },
  CS_CALLER_NOT_ATTESTED: noIdentity,
  CS_CALLER_CHANGED: noIdentity,
  CS_NO_IDENTITY: noIdentity,
  CS_ENTRY_WITHDRAWN: noIdentity,
  CS_NOT_THE_CALLER: {
    code: status.PERMISSION_DENIED,
    details: 'only the private socket tells about other processes',
  },
  CS_PROCESS_NOT_FOUND: { code: status.NOT_FOUND, details: 'no such process' },
  CS_PROFILE_NOT_OFFERED: { code: status.UNIMPLEMENTED, details: 'profile is not offered' },
  CS_ATTESTORS_FAILED: { code: status.UNAVAILABLE, details: 'caller cannot be identified now' },
  CS_AGENT_STOPPING: { code: status.UNAVAILABLE, details: 'agent is stopping' },
  CS_IDENTITIES_NOT_READY: notYet,
  CS_SENTRY_UNAVAILABLE: notYet,
  CS_SENTRY_RESPONSE_INVALID: notYet,
  CS_ISSUANCE_REFUSED: notYet,
  CS_CLOCK_SKEWED: notYet,
  CS_BANNED_BY_SENTRY: notYet,
  CS_UNKNOWN_TO_SENTRY: notYet,
  CS_OWN_SVID_EXPIRED: notYet,
  CS_OWN_SVID_SUPERSEDED: notYet,
  CS_REATTESTATION_REQUIRED: notYet,
  CS_BUNDLE_NOT_FOUND: notYet,
}

const internal: Reply = { code: status.INTERNAL, details: 'internal error' }

/** The reply to anything thrown while a call is served; `special` replies go before the common ones. */
export function replyFor(error: unknown, special: Replies = {}): Reply {
  const code = codeOf(error)
  return (code && (special[code] ?? replies[code])) ?? internal
}

export function codeOf(error: unknown): LocalErrorCode | undefined {
  return error instanceof AgentError || error instanceof SpiffeError ? error.code : undefined
}

/** What the log says of a refusal. */
export function reasonOf(error: unknown): { readonly code: string; readonly reason: string } {
  const reason = error instanceof Error ? error.message : 'thrown value is not an error'
  return { code: codeOf(error) ?? 'INTERNAL', reason }
}

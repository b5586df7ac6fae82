import { Metadata, type StatusObject, status } from '@grpc/grpc-js'
import { Status } from '../../proto/gen/google/rpc/status.js'
import {
  PermissionDeniedDetails,
  PermissionDeniedDetails_Reason as Reason,
} from '../../proto/gen/spire/api/types/types.js'
import { SpiffeError } from '../../spiffe/index.js'
import { SentryError, type SentryErrorCode } from '../errors.js'
import { RateLimitError } from './rate-limit.js'

/** A refusal as the caller gets it. */
export type Reply = Pick<StatusObject, 'code' | 'details' | 'metadata'>

/** The gRPC status of what a caller can be told. Every other code is `INTERNAL`. */
const statuses: Partial<Record<SentryErrorCode, status>> = {
  CS_REQUEST_INVALID: status.INVALID_ARGUMENT,
  CS_CSR_MALFORMED: status.INVALID_ARGUMENT,
  CS_CSR_KEY_NOT_PROVEN: status.INVALID_ARGUMENT,
  CS_CSR_KEY_NOT_ALLOWED: status.INVALID_ARGUMENT,
  CS_ISSUE_REQUEST_INVALID: status.INVALID_ARGUMENT,
  CS_ATTESTATION_INVALID: status.INVALID_ARGUMENT,
  CS_JOIN_TOKEN_INVALID: status.INVALID_ARGUMENT,
  CS_JOIN_TOKEN_EXPIRED: status.INVALID_ARGUMENT,
  CS_ENTRY_INVALID: status.INVALID_ARGUMENT,
  CS_ATTESTOR_UNKNOWN: status.FAILED_PRECONDITION,
  CS_BUNDLE_IN_USE: status.FAILED_PRECONDITION,
  CS_ENTRY_EXISTS: status.ALREADY_EXISTS,
  CS_BUNDLE_EXISTS: status.ALREADY_EXISTS,
  CS_AGENT_NOT_FOUND: status.NOT_FOUND,
  CS_ENTRY_NOT_FOUND: status.NOT_FOUND,
  CS_POLICY_NOT_FOUND: status.NOT_FOUND,
  CS_CALLER_NOT_ALLOWED: status.PERMISSION_DENIED,
  CS_AGENT_EXPIRED: status.PERMISSION_DENIED,
  CS_AGENT_NOT_ATTESTED: status.PERMISSION_DENIED,
  CS_AGENT_NOT_ACTIVE: status.PERMISSION_DENIED,
  CS_AGENT_BANNED: status.PERMISSION_DENIED,
  CS_AGENT_MUST_REATTEST: status.PERMISSION_DENIED,
  CS_DATASTORE_UNAVAILABLE: status.UNAVAILABLE,
  CS_AUTHORITY_NOT_VALID: status.UNAVAILABLE,
  CS_SHUTTING_DOWN: status.UNAVAILABLE,
  CS_FEATURE_OFF: status.UNIMPLEMENTED,
}

/** Codes whose message is part of SPIRE's contract although their status is `INTERNAL`. */
const told: ReadonlySet<string> = new Set<SentryErrorCode>([
  'CS_FEDERATED_BUNDLE_MISSING',
  'CS_JOIN_TOKEN_EXISTS',
])

/** What SPIRE's agents act on: whether to attest again, to stop, or to wait. */
const denials: Partial<Record<SentryErrorCode, Reason>> = {
  CS_AGENT_EXPIRED: Reason.AGENT_EXPIRED,
  CS_AGENT_NOT_ATTESTED: Reason.AGENT_NOT_ATTESTED,
  CS_AGENT_NOT_ACTIVE: Reason.AGENT_NOT_ACTIVE,
  CS_AGENT_BANNED: Reason.AGENT_BANNED,
  CS_AGENT_MUST_REATTEST: Reason.AGENT_MUST_REATTEST,
}

const DENIAL_TYPE = 'type.googleapis.com/spire.api.types.PermissionDeniedDetails'

/** The reply to anything thrown while a call was served, with its reason code in the trailer. */
export function replyTo(error: unknown): Reply {
  const code = codeOf(error)
  const metadata = new Metadata()
  metadata.set('countersign-code', code)
  if (error instanceof RateLimitError) {
    metadata.set('grpc-retry-pushback-ms', String(Math.ceil(error.retryAfterMs)))
  }
  const reply = { ...statusOf(error), metadata }
  const reason = error instanceof SentryError ? denials[error.code] : undefined
  if (reason !== undefined) attachDenial(reply, reason)
  return reply
}

/** Status and message, as an item of a batch carries them. */
export function statusOf(error: unknown): { code: status; details: string } {
  const { message: details } = error as Error
  if (error instanceof RateLimitError) return { code: status.RESOURCE_EXHAUSTED, details }
  if (error instanceof SentryError) {
    const code = statuses[error.code]
    if (code !== undefined) return { code, details }
    if (told.has(error.code)) return { code: status.INTERNAL, details }
  }
  if (error instanceof SpiffeError) {
    const missing = error.code === 'CS_BUNDLE_NOT_FOUND'
    return { code: missing ? status.NOT_FOUND : status.INVALID_ARGUMENT, details }
  }
  if (isPolicyRefusal(error)) return { code: status.INVALID_ARGUMENT, details }
  return { code: status.INTERNAL, details: 'internal error' }
}

/** Whether the caller lacked the right, rather than having asked for something wrong. */
export function isDenial(code: string): boolean {
  return statuses[code as SentryErrorCode] === status.PERMISSION_DENIED
}

/** The reason code that records and metrics carry. */
export function codeOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return typeof code === 'string' && code.startsWith('CS_') ? code : 'CS_INTERNAL'
}

/** What the policy language refuses comes through the compiler, with codes of its own. */
export function isPolicyRefusal(error: unknown): error is Error {
  return error instanceof Error && codeOf(error).startsWith('CS_POLICY_')
}

/**
 * Go clients take code and message from here, and report INTERNAL when the code is not that of the
 * call.
 */
function attachDenial({ code, details, metadata }: Reply, reason: Reason): void {
  const value = PermissionDeniedDetails.encode({ reason }).finish()
  const status = Status.encode({
    code,
    message: details,
    details: [{ typeUrl: DENIAL_TYPE, value }],
  }).finish()
  metadata.set('grpc-status-details-bin', Buffer.from(status))
}

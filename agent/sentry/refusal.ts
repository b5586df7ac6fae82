import { type ServiceError, status } from '@grpc/grpc-js'
import { Status } from '../../proto/gen/google/rpc/status.js'
import {
  PermissionDeniedDetails,
  PermissionDeniedDetails_Reason as Reason,
} from '../../proto/gen/spire/api/types/types.js'
import { AgentError, type AgentErrorCode } from '../errors.js'

const DETAILS = 'grpc-status-details-bin'
const DETAILS_TYPE = 'type.googleapis.com/spire.api.types.PermissionDeniedDetails'

const codes: Readonly<Record<number, AgentErrorCode>> = {
  [Reason.AGENT_EXPIRED]: 'CS_OWN_SVID_EXPIRED',
  [Reason.AGENT_NOT_ATTESTED]: 'CS_UNKNOWN_TO_SENTRY',
  [Reason.AGENT_NOT_ACTIVE]: 'CS_OWN_SVID_SUPERSEDED',
  [Reason.AGENT_BANNED]: 'CS_BANNED_BY_SENTRY',
  [Reason.AGENT_MUST_REATTEST]: 'CS_REATTESTATION_REQUIRED',
}

/** After these the agent's own SVID is of no use any more; only new evidence helps. */
const lasting: ReadonlySet<string> = new Set(Object.values(codes))

export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && 'details' in error && 'metadata' in error
}

export function isUnimplemented(error: unknown): boolean {
  return isServiceError(error) && error.code === status.UNIMPLEMENTED
}

/** What a failed call means for the agent: its standing with the sentry, or only that this call failed. */
export function refusalOf(error: unknown): Error {
  if (error instanceof AgentError || !isServiceError(error)) return error as Error
  const code = codes[reasonOf(error)]
  if (code) return new AgentError(code, 'sentry refused this agent', { cause: error })
  return new AgentError('CS_SENTRY_UNAVAILABLE', callFailure(error), { cause: error })
}

/** The status of the call that an error came of, through whatever was made of it; undefined if it came of none. */
export function statusOf(error: unknown): status | undefined {
  if (error instanceof AgentError) return statusOf(error.cause)
  return isServiceError(error) ? error.code : undefined
}

const outages: ReadonlySet<status | undefined> = new Set([
  status.UNAVAILABLE,
  status.DEADLINE_EXCEEDED,
  status.CANCELLED,
  status.RESOURCE_EXHAUSTED,
  undefined,
])

/** Whether a call failed for want of a sentry that answers, and not for what was asked. */
export function isOutage(error: unknown): boolean {
  if (!(error instanceof AgentError) || lasting.has(error.code)) return true
  return error.code !== 'CS_SENTRY_RESPONSE_INVALID' && outages.has(statusOf(error))
}

/** Whether the sentry no longer accepts the SVID that the agent presents. */
export function endsOwnSvid(error: unknown): error is AgentError {
  return error instanceof AgentError && lasting.has(error.code)
}

/** Status and text of a failed call, cut to what a log line bears. */
export function callFailure({ code, details }: ServiceError): string {
  return `sentry answered ${status[code]}: ${details.slice(0, 300)}`
}

function reasonOf({ code, metadata }: ServiceError): number {
  const [bytes] = metadata.get(DETAILS)
  if (code !== status.PERMISSION_DENIED || !Buffer.isBuffer(bytes)) return Reason.UNKNOWN
  try {
    const detail = Status.decode(bytes).details.find(({ typeUrl }) => typeUrl === DETAILS_TYPE)
    return detail ? PermissionDeniedDetails.decode(detail.value).reason : Reason.UNKNOWN
  } catch {
    return Reason.UNKNOWN
  }
}

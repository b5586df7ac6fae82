import { type ServiceError, status } from '@grpc/grpc-js'
import type {
  AttestAgentRequest,
  AttestAgentResponse,
} from '../../proto/gen/spire/api/server/agent/v1/agent.js'
import type { X509SVID } from '../../proto/gen/spire/api/types/types.js'
import { AgentError } from '../errors.js'
import type { Connection } from './connection.js'
import { callFailure, isServiceError, refusalOf } from './refusal.js'
import { unusable } from './wire.js'

/** What an agent shows to get its first SVID. */
export interface Evidence {
  /** SPIRE's name of the kind, `join_token` for one. */
  readonly type: string
  readonly payload: Uint8Array
}

/** After these the same evidence may still be good: the sentry has not judged it. */
const unjudged: ReadonlySet<status> = new Set([
  status.UNAVAILABLE,
  status.DEADLINE_EXCEEDED,
  status.CANCELLED,
  status.RESOURCE_EXHAUSTED,
  status.ABORTED,
  status.INTERNAL,
  status.UNKNOWN,
])

/**
 * Attests on a connection without a client certificate, one message at a time as SPIRE does it.
 * Throws `CS_ATTESTATION_REJECTED` when the evidence is worth nothing, `CS_SENTRY_UNAVAILABLE` when
 * it may be shown again.
 */
export async function attest(
  connection: Connection,
  request: { readonly evidence: Evidence; readonly csr: Uint8Array },
  signal: AbortSignal,
): Promise<X509SVID | undefined> {
  const { evidence, csr } = request
  const { type, payload } = evidence
  const step = await converse(
    connection,
    { step: { $case: 'params', value: { data: { type, payload }, params: { csr } } } },
    signal,
  )
  switch (step?.$case) {
    case 'result':
      return step.value.svid
    case 'challenge':
      throw new AgentError('CS_ATTESTATION_REJECTED', `sentry sent a challenge for a ${type}`)
    case undefined:
      throw unusable('sentry ended the attestation without a result')
  }
}

/** Asks for a successor of the SVID that the connection presents. */
export async function renew(
  connection: Connection,
  csr: Uint8Array,
  signal: AbortSignal,
): Promise<X509SVID | undefined> {
  const { svid } = await connection.call<{ svid: X509SVID | undefined }>(
    (done) => connection.agents.renewAgent({ params: { csr } }, done),
    signal,
  )
  return svid
}

/** Sends one message, takes the one that answers it and hangs up. */
function converse(
  connection: Connection,
  message: AttestAgentRequest,
  signal: AbortSignal,
): Promise<AttestAgentResponse['step']> {
  return new Promise((resolve, reject) => {
    const call = connection.agents.attestAgent()
    const onAbort = () => {
      reject(signal.reason as Error)
      call.cancel()
    }
    signal.addEventListener('abort', onAbort, { once: true })
    call.on('metadata', connection.observe)
    call.on('error', (error: ServiceError) => reject(rejectionOf(error)))
    call.on('end', () => resolve(undefined))
    call.once('data', (response: AttestAgentResponse) => {
      resolve(response.step)
      call.end()
    })
    call.on('status', () => signal.removeEventListener('abort', onAbort))
    call.write(message)
  })
}

function rejectionOf(error: ServiceError): Error {
  const meaning = refusalOf(error)
  if (!isServiceError(error) || unjudged.has(error.code)) return meaning
  return new AgentError('CS_ATTESTATION_REJECTED', callFailure(error), { cause: error })
}

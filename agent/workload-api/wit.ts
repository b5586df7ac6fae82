import type { handleServerStreamingCall } from '@grpc/grpc-js'
import { AgentError } from '../errors.js'
import type { CallContext } from './calls.js'
import { reasonOf, replyFor } from './replies.js'

/** The WIT-SVID profile is incubating and not offered (Workload API §7). */
export function notOffered<Request, Response>(
  { log }: CallContext,
  rpc: string,
): handleServerStreamingCall<Request, Response> {
  return (call) => {
    const error = new AgentError('CS_PROFILE_NOT_OFFERED', `${rpc} is not offered`)
    log.info({ rpc, ...reasonOf(error) }, 'call refused')
    call.emit('error', replyFor(error))
  }
}

import type { handleServerStreamingCall } from '@grpc/grpc-js'
import { AgentError } from '../errors.js'
import type { CallContext } from './calls.js'
import { replyFor } from './replies.js'

/** The WIT-SVID profile is incubating and not offered (Workload API §7). */
export function notOffered<Request, Response>(
  { connections, journal }: CallContext,
  rpc: string,
): handleServerStreamingCall<Request, Response> {
  return (call) => {
    const error = new AgentError('CS_PROFILE_NOT_OFFERED', `${rpc} is not offered`)
    journal.refused({ rpc, connection: connections.find(call) }, error)
    call.emit('error', replyFor(error))
  }
}

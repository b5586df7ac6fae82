import {
  type Metadata,
  ServerInterceptingCall,
  type ServerInterceptor,
  ServerListenerBuilder,
} from '@grpc/grpc-js'
import { AgentError } from '../errors.js'
import { replyFor } from './replies.js'

const HEADER = 'workload.spiffe.io'

/**
 * Refuses every call, of whichever service, that does not carry the metadata of the standard (Workload
 * Endpoint §3), before anything else is done for it: a confused HTTP client cannot be made to send it.
 */
export function securityHeader(
  onRefused: (rpc: string, peer: string, error: AgentError) => void,
): ServerInterceptor {
  return (method, call) => {
    const refuse = () => {
      const error = new AgentError('CS_SECURITY_HEADER_MISSING', `call does not carry ${HEADER}`)
      onRefused(method.path, call.getPeer(), error)
      call.sendStatus(replyFor(error))
    }
    const listener = new ServerListenerBuilder()
      .withOnReceiveMetadata((metadata, next) => {
        if (carriesHeader(metadata)) next(metadata)
        else refuse()
      })
      .build()
    return new ServerInterceptingCall(call, { start: (next) => next(listener) })
  }
}

function carriesHeader(metadata: Metadata): boolean {
  const values = metadata.get(HEADER)
  return values.length === 1 && values[0] === 'true'
}

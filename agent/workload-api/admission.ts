import {
  type Metadata,
  ServerInterceptingCall,
  type ServerInterceptor,
  ServerListenerBuilder,
} from '@grpc/grpc-js'
import { AgentError } from '../errors.js'
import type { Connection, Connections } from './connections.js'
import type { Journal } from './journal.js'
import type { Limits } from './limits.js'
import { replyFor } from './replies.js'

export interface AdmissionOptions {
  readonly connections: Connections
  readonly limits: Limits
  readonly journal: Journal
}

const HEADER = 'workload.spiffe.io'

/**
 * Stands before every call, of whichever service, and does nothing for one that it refuses: one without
 * the metadata of the standard (Workload Endpoint §3), which a confused HTTP client cannot be made to
 * send, one with oversized headers, or one of a user with too many calls open.
 */
export function admission(options: AdmissionOptions): ServerInterceptor {
  const { connections, journal } = options
  return (method, call) => {
    const connection = connections.find(call)
    let admitted = false
    const refuse = (error: AgentError) => {
      journal.refused({ rpc: method.path, connection }, error)
      call.sendStatus(replyFor(error))
    }
    const listener = new ServerListenerBuilder()
      .withOnReceiveMetadata((metadata, next) => {
        const error = refusal(metadata, connection, options)
        if (error) return refuse(error)
        admitted = true
        connection?.calls.opened()
        next(metadata)
      })
      // Comes once for every call, however it ends.
      .withOnCancel(() => {
        if (admitted) connection?.calls.closed()
      })
      .build()
    return new ServerInterceptingCall(call, { start: (next) => next(listener) })
  }
}

function refusal(
  metadata: Metadata,
  connection: Connection | undefined,
  { limits }: AdmissionOptions,
): AgentError | undefined {
  if (!carriesHeader(metadata)) {
    return new AgentError('CS_SECURITY_HEADER_MISSING', `call does not carry ${HEADER}`)
  }
  if (bytesOf(metadata) > limits.headerBytes) {
    return new AgentError('CS_CALL_LIMIT', 'headers of the call are too large')
  }
  if (connection && connection.calls.ofUser() >= limits.callsPerUser) {
    return new AgentError('CS_CALL_LIMIT', 'user has too many calls open')
  }
  return undefined
}

function carriesHeader(metadata: Metadata): boolean {
  const values = metadata.get(HEADER)
  return values.length === 1 && values[0] === 'true'
}

function bytesOf(metadata: Metadata): number {
  let bytes = 0
  for (const [name, values] of Object.entries(metadata.toJSON())) {
    for (const value of values) bytes += name.length + value.length
  }
  return bytes
}

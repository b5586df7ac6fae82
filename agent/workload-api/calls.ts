import type { handleUnaryCall } from '@grpc/grpc-js'
import type { LogFields } from '../../platform/log.js'
import type { AttestedCaller } from '../attestation/caller.js'
import type { Connection, Connections } from './connections.js'
import type { Journal } from './journal.js'
import { type Replies, replyFor } from './replies.js'

/** What the calls of a local server share. */
export interface CallContext {
  readonly connections: Connections
  readonly journal: Journal
}

export interface UnaryRequest<Request> {
  readonly request: Request
  readonly connection: Connection
  /** Looks at the caller anew. */
  attest(): Promise<AttestedCaller>
  /** Aborts when the connection closes. A call that is cancelled alone is finished for the next one like it. */
  readonly signal: AbortSignal
}

export interface Answer<Response> {
  readonly response: Response
  /** What the log says was granted. */
  readonly granted: LogFields
}

export interface UnaryOptions<Request, Response> {
  readonly rpc: string
  readonly serve: (request: UnaryRequest<Request>) => Promise<Answer<Response>>
  /** Replies of this call that differ from the common ones. */
  readonly replies?: Replies
}

/** Serves a call with one answer. Whatever is thrown becomes a fixed reply and one line in the log. */
export function unaryHandler<Request, Response>(
  { connections, journal }: CallContext,
  { rpc, serve, replies }: UnaryOptions<Request, Response>,
): handleUnaryCall<Request, Response> {
  return async (call, callback) => {
    let connection: Connection | undefined
    try {
      connection = connections.of(call)
      const { caller, closed: signal } = connection
      const attest = () => caller.attest(signal)
      const { request } = call
      const { response, granted } = await serve({ request, connection, attest, signal })
      journal.granted({ rpc, connection }, granted, 'call served')
      callback(null, response)
    } catch (error) {
      journal.refused({ rpc, connection }, error)
      callback(replyFor(error, replies))
    }
  }
}

import type { handleServerStreamingCall, ServerWritableStream } from '@grpc/grpc-js'
import type { Clock } from '../../platform/clock.js'
import type { AttestedCaller } from '../attestation/caller.js'
import type { CallContext } from './calls.js'
import type { Connection } from './connections.js'
import type { Entitlements } from './entitlements.js'
import { follower, type View } from './follower.js'
import type { Pushes } from './pushes.js'
import { replyFor } from './replies.js'
import { type SendingCall, streamSink } from './stream-sink.js'

export interface StreamContext extends CallContext {
  readonly entitlements: Entitlements
  readonly pushes: Pushes
  readonly clock: Clock
  readonly patienceMs: number
}

export interface StreamOptions {
  readonly rpc: string
  /** Throws when the caller is to hold nothing. */
  readonly view: (caller: AttestedCaller) => View
}

/** Serves a call that is answered at once with the whole state, and again whenever it changes. */
export function streamHandler<Request>(
  context: StreamContext,
  options: StreamOptions,
): handleServerStreamingCall<Request, Buffer> {
  return (call: ServerWritableStream<Request, Buffer>) => {
    refuseOnThrow(context, { rpc: options.rpc, call }, (connection) => {
      openStream(context, { ...options, call, connection })
    })
  }
}

export interface OpenStream extends StreamOptions {
  readonly call: SendingCall
  readonly connection: Connection
}

export function openStream(context: StreamContext, { call, ...options }: OpenStream) {
  const sink = streamSink(call)
  const opened = follower({ ...context, ...options, sink })
  context.pushes.follow(opened)
  return opened
}

export interface StreamStart {
  readonly rpc: string
  readonly call: SendingCall & { getPeer(): string }
}

/** Finds the connection of a stream. What is thrown becomes its status: gRPC itself would let it kill the process. */
export function refuseOnThrow(
  { connections, entitlements, journal }: StreamContext,
  { rpc, call }: StreamStart,
  open: (connection: Connection) => void,
): void {
  let connection: Connection | undefined
  try {
    connection = connections.of(call)
    entitlements.assertReady()
    open(connection)
  } catch (error) {
    journal.refused({ rpc, connection }, error)
    streamSink(call).end(replyFor(error))
  }
}

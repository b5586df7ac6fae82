import {
  type ClientReadableStream,
  type ClientUnaryCall,
  type ServiceError,
  status,
} from '@grpc/grpc-js'
import type { EndpointAddress } from './address.js'
import type { Connection } from './connection.js'
import { type CallFailure, endpointError } from './endpoint-error.js'
import type { SpiffeWorkloadAPIClient } from './gen/workload.js'

/** A stream and the way to give up the connection under it, so that the next one is dialled anew. */
export interface OpenStream<Message> {
  readonly stream: ClientReadableStream<Message>
  drop(): void
}

export type UnaryCallback<Response> = (error: ServiceError | null, response: Response) => void

/** Opens a stream on the shared connection. */
export function openStream<Message>(
  connection: Connection,
  start: (client: SpiffeWorkloadAPIClient) => ClientReadableStream<Message>,
): OpenStream<Message> {
  const client = connection.client()
  return { stream: start(client), drop: () => connection.drop(client) }
}

/** The messages of a stream. It is cancelled when its reader leaves or `signal` aborts. */
export async function* messagesOf<Message>(
  stream: ClientReadableStream<Message>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Message> {
  const cancel = () => stream.cancel()
  // Cancelling is reported as an error once more, when nobody reads any longer.
  stream.on('error', () => undefined)
  signal?.addEventListener('abort', cancel, { once: true })
  try {
    if (signal?.aborted) cancel()
    yield* stream as AsyncIterable<Message>
  } finally {
    signal?.removeEventListener('abort', cancel)
    cancel()
  }
}

/** Makes a call on the shared connection and says in our codes what went wrong with it. */
export async function callEndpoint<Result>(options: {
  readonly connection: Connection
  readonly address: EndpointAddress
  readonly signal: AbortSignal | undefined
  call(client: SpiffeWorkloadAPIClient): Promise<Result>
}): Promise<Result> {
  const { connection, address, signal, call } = options
  signal?.throwIfAborted()
  const client = connection.client()
  try {
    return await call(client)
  } catch (error) {
    if (signal?.aborted) throw signal.reason
    if (!isCallFailure(error)) throw error
    if (error.code === status.UNAVAILABLE) connection.drop(client)
    throw endpointError(error, address)
  }
}

/** A unary call as a promise. It is cancelled when `signal` aborts. */
export function unary<Response>(
  start: (callback: UnaryCallback<Response>) => ClientUnaryCall,
  signal: AbortSignal | undefined,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    const cancel = () => call.cancel()
    const call = start((error, response) => {
      signal?.removeEventListener('abort', cancel)
      if (error) reject(error)
      else resolve(response)
    })
    signal?.addEventListener('abort', cancel, { once: true })
  })
}

/** grpc-js gives an error with a numeric status; anything else is a fault of our own. */
export function isCallFailure(error: unknown): error is CallFailure & Error {
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'number' &&
    'details' in error &&
    typeof error.details === 'string'
  )
}

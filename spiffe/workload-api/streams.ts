import type { ClientReadableStream } from '@grpc/grpc-js'
import type { RuntimeClock } from '../runtime.js'
import { securityMetadata } from './connection.js'
import type {
  JWTBundlesResponse,
  SpiffeWorkloadAPIClient,
  X509BundlesResponse,
  X509SVIDResponse,
} from './gen/workload.js'
import { type JwtBundles, readJwtBundles } from './jwt-messages.js'
import {
  readX509Bundles,
  readX509Context,
  type X509Bundles,
  type X509Context,
} from './x509-messages.js'

/** One of the API's streams: how it is asked for and how its messages are read. */
export interface StreamOf<Message, Value> {
  readonly method: string
  /** Without a deadline: such a stream lives as long as its reader (Workload API §4.2). */
  start(client: SpiffeWorkloadAPIClient): ClientReadableStream<Message>
  /** Returns `previous` itself when nothing changed. Throws `CS_RESPONSE_INVALID`. */
  read(message: Message, previous: Value | undefined): Value
}

export function x509ContextStream(clock: RuntimeClock): StreamOf<X509SVIDResponse, X509Context> {
  return {
    method: 'FetchX509SVID',
    start: (client) => client.fetchX509Svid({}, securityMetadata()),
    read: (message, previous) => readX509Context(message, { now: clock.now(), previous }),
  }
}

export const x509BundlesStream: StreamOf<X509BundlesResponse, X509Bundles> = {
  method: 'FetchX509Bundles',
  start: (client) => client.fetchX509Bundles({}, securityMetadata()),
  read: readX509Bundles,
}

export const jwtBundlesStream: StreamOf<JWTBundlesResponse, JwtBundles> = {
  method: 'FetchJWTBundles',
  start: (client) => client.fetchJwtBundles({}, securityMetadata()),
  read: readJwtBundles,
}

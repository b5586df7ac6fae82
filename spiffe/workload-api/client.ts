import { type ClientUnaryCall, status } from '@grpc/grpc-js'
import { SpiffeError } from '../errors.js'
import type { SpiffeId } from '../id.js'
import { nodeRuntime, type Runtime } from '../runtime.js'
import { type EndpointAddress, locateEndpoint } from './address.js'
import {
  callEndpoint,
  isCallFailure,
  messagesOf,
  openStream,
  type UnaryCallback,
  unary,
} from './calls.js'
import { connectionTo, securityMetadata } from './connection.js'
import type {
  JWTSVIDResponse,
  SpiffeWorkloadAPIClient,
  ValidateJWTSVIDResponse,
} from './gen/workload.js'
import {
  type JwtBundles,
  type OwnJwtSvid,
  readJwtSvids,
  readValidation,
  type ValidatedJwt,
} from './jwt-messages.js'
import { invalidResponse } from './response-checks.js'
import { jwtBundlesStream, type StreamOf, x509BundlesStream, x509ContextStream } from './streams.js'
import { type ClientLog, type WatchListener, watchStream } from './watch.js'
import type { X509Bundles, X509Context } from './x509-messages.js'

export interface WorkloadApiOptions {
  /** `unix:///path` or `tcp://ip:port`; else SPIFFE_ENDPOINT_SOCKET says it. */
  readonly address?: string
  readonly runtime?: Runtime
  readonly log?: ClientLog
}

export interface FetchJwtOptions {
  readonly audience: string | readonly string[]
  /** One of the identities of this process; without it, a token for each of them. */
  readonly id?: SpiffeId
  readonly signal?: AbortSignal
}

export interface ValidateJwtOptions {
  /** What the validating side is called. */
  readonly audience: string
  readonly token: string
  readonly signal?: AbortSignal
}

/**
 * The SPIFFE Workload API of this machine. A fetch is one attempt and throws `CS_SOCKET_MISSING`,
 * `CS_SOCKET_DENIED`, `CS_ENDPOINT_UNAVAILABLE`, `CS_NO_IDENTITY`, `CS_ENDPOINT_REFUSED` or
 * `CS_RESPONSE_INVALID`. A watch ends when its signal aborts and rejects with `CS_ENDPOINT_REFUSED` only.
 */
export interface WorkloadApiClient extends Disposable {
  readonly address: EndpointAddress
  fetchX509Context(signal?: AbortSignal): Promise<X509Context>
  watchX509Context(listener: WatchListener<X509Context>, signal: AbortSignal): Promise<void>
  fetchX509Bundles(signal?: AbortSignal): Promise<X509Bundles>
  watchX509Bundles(listener: WatchListener<X509Bundles>, signal: AbortSignal): Promise<void>
  fetchJwtSvids(options: FetchJwtOptions): Promise<readonly [OwnJwtSvid, ...OwnJwtSvid[]]>
  fetchJwtBundles(signal?: AbortSignal): Promise<JwtBundles>
  watchJwtBundles(listener: WatchListener<JwtBundles>, signal: AbortSignal): Promise<void>
  /** Also throws `CS_JWT_SVID_INVALID` when the endpoint finds the token bad. */
  validateJwtSvid(options: ValidateJwtOptions): Promise<ValidatedJwt>
  /** Lets calls in flight finish. Closing twice is closing once. */
  close(): void
}

/** Makes the client and does not dial yet. Throws `CS_SOCKET_INVALID`. */
export function workloadApiClient(options: WorkloadApiOptions = {}): WorkloadApiClient {
  const { runtime = nodeRuntime } = options
  const address = locateEndpoint(options.address, runtime.environment)
  const { first, watch, call, close } = endpointAt(address, runtime, options.log ?? silence)
  const x509Context = x509ContextStream(runtime.clock)

  return {
    address,
    fetchX509Context: (signal) => first(x509Context, signal),
    watchX509Context: (listener, signal) => watch(x509Context, listener, signal),
    fetchX509Bundles: (signal) => first(x509BundlesStream, signal),
    watchX509Bundles: (listener, signal) => watch(x509BundlesStream, listener, signal),
    fetchJwtBundles: (signal) => first(jwtBundlesStream, signal),
    watchJwtBundles: (listener, signal) => watch(jwtBundlesStream, listener, signal),
    fetchJwtSvids: (wanted) => fetchJwtSvids(call, wanted),
    validateJwtSvid: (wanted) => validateJwtSvid(call, wanted),
    close,
    [Symbol.dispose]: close,
  }
}

type UnaryCall = <Response>(
  start: (client: SpiffeWorkloadAPIClient, done: UnaryCallback<Response>) => ClientUnaryCall,
  signal: AbortSignal | undefined,
) => Promise<Response>

/** The three ways of calling, over one connection. */
function endpointAt(address: EndpointAddress, runtime: Runtime, log: ClientLog) {
  const connection = connectionTo(address)
  const call: UnaryCall = (start, signal) =>
    callEndpoint({
      connection,
      address,
      signal,
      call: (client) => unary((done) => start(client, done), signal),
    })
  return {
    call,
    close: () => connection.close(),
    first: <Message, Value>(stream: StreamOf<Message, Value>, signal?: AbortSignal) =>
      callEndpoint({
        connection,
        address,
        signal,
        call: async (client) => {
          for await (const message of messagesOf(stream.start(client), signal)) {
            return stream.read(message, undefined)
          }
          throw invalidResponse('stream ended without a message')
        },
      }),
    watch: <Message, Value>(
      { method, start, read }: StreamOf<Message, Value>,
      listener: WatchListener<Value>,
      signal: AbortSignal,
    ) => {
      const open = () => openStream(connection, start)
      return watchStream({ method, address, runtime, log, open, read }, listener, signal)
    },
  }
}

async function fetchJwtSvids(call: UnaryCall, { audience: wanted, id, signal }: FetchJwtOptions) {
  const audience = typeof wanted === 'string' ? [wanted] : [...wanted]
  assertAudience(audience)
  const request = { audience, spiffeId: id ?? '' }
  const message = await call<JWTSVIDResponse>(
    (client, done) => client.fetchJwtsvid(request, securityMetadata(), done),
    signal,
  )
  return readJwtSvids(message, { audience, id })
}

async function validateJwtSvid(call: UnaryCall, { audience, token, signal }: ValidateJwtOptions) {
  assertAudience([audience])
  if (token === '') throw new SpiffeError('CS_JWT_SVID_INVALID', 'token is empty')
  const message = await call<ValidateJWTSVIDResponse>(
    (client, done) => client.validateJwtsvid({ audience, svid: token }, securityMetadata(), done),
    signal,
  ).catch(blameToken)
  return readValidation(message)
}

/** The audience is mandatory; an endpoint would refuse the request in the same way (Workload API §4.5). */
function assertAudience(audience: readonly string[]): void {
  if (audience.length > 0 && !audience.includes('')) return
  throw new SpiffeError('CS_ENDPOINT_REFUSED', 'audience is empty')
}

/** The request itself was in order, so an invalid argument can only be the token. */
function blameToken(error: unknown): never {
  const failure = error instanceof SpiffeError ? error.cause : undefined
  if (!isCallFailure(failure) || failure.code !== status.INVALID_ARGUMENT) throw error
  throw new SpiffeError('CS_JWT_SVID_INVALID', failure.details, { cause: error })
}

const silence: ClientLog = { info: () => undefined, warn: () => undefined }

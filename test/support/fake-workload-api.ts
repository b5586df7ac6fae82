import { EventEmitter, once } from 'node:events'
import { createServer, type Server as NetServer, type Socket } from 'node:net'
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js'
import {
  bundleSet,
  idOfTrustDomain,
  jwtKeySetOf,
  SpiffeError,
  type TrustBundle,
  verifyJwtSvid,
  type X509Svid,
} from '../../spiffe/index.js'
import {
  type JWTBundlesResponse,
  type JWTSVIDRequest,
  type JWTSVIDResponse,
  SpiffeWorkloadAPIService,
  type ValidateJWTSVIDRequest,
  type ValidateJWTSVIDResponse,
  type X509BundlesResponse,
  type X509SVIDResponse,
} from '../../spiffe/workload-api/index.js'
import type { TestAuthority } from './authority.js'
import { tempFolder } from './temp-folder.js'

export interface FakeIdentity {
  /** `/web`, or a whole SPIFFE ID. */
  readonly id: string
  readonly hint?: string
  readonly ttlMs?: number
}

export interface FakeWorkloadApiOptions {
  readonly authority: TestAuthority
  /** What the caller is granted, whoever it is. One identity `/web` unless given; none if empty. */
  readonly identities?: readonly FakeIdentity[]
  readonly federated?: readonly TestAuthority[]
  readonly now?: () => Date
  /** Listens on a loopback port instead of a Unix socket. */
  readonly tcp?: boolean
}

export type FakeMethod = Exclude<
  keyof typeof SpiffeWorkloadAPIService,
  'fetchWitsvid' | 'fetchWitBundles'
>
type StreamMethod = 'fetchX509Svid' | 'fetchX509Bundles' | 'fetchJwtBundles'

export interface RecordedCall {
  readonly method: FakeMethod
  readonly request: unknown
  readonly metadata: Metadata
  /** As the caller set it; `Infinity` without one. */
  readonly deadline: number
}

export interface FakeFailure {
  readonly code: status
  readonly details: string
}

/** A Workload API that behaves: it grants, rotates, withdraws, and fails in the way it is told to. */
export interface FakeWorkloadApi extends AsyncDisposable {
  readonly address: string
  readonly path: string
  readonly calls: readonly RecordedCall[]
  /** Resolves when `times` calls of the method have arrived since the start. */
  called(method: FakeMethod, times: number): Promise<void>
  /** The connections made so far. */
  connections(): number
  /** Issues each identity anew and tells every open stream. */
  rotate(): void
  grant(identities: readonly FakeIdentity[]): void
  /** Ends every stream with PermissionDenied, and so every later call, until something is granted. */
  withdraw(): void
  federate(authorities: readonly TestAuthority[]): void
  /** What FetchX509SVID says now; to be spoilt and pushed. */
  x509Message(): X509SVIDResponse
  /** Sends to every open stream of the method, unchecked; a Buffer goes out as it is. */
  push(method: StreamMethod, message: object): void
  endStreams(): void
  failStreams(failure: FakeFailure): void
  /** The next call of the method fails, or the next few. */
  failNext(method: FakeMethod, ...failures: readonly FakeFailure[]): void
  /** Answers FetchJWTSVID with this instead of what it would issue. */
  answerJwt(answer: JWTSVIDResponse | undefined): void
  /** Calls arrive and get no answer, until told otherwise. */
  hang(method: FakeMethod, on: boolean): void
  dropConnections(): void
  stop(): Promise<void>
  start(): Promise<void>
}

type AnyStream = ServerWritableStream<object, object>
type Recordable = Pick<AnyStream, 'metadata' | 'getDeadline' | 'request'>

const NOTHING: FakeFailure = { code: status.PERMISSION_DENIED, details: 'no identity issued' }

export async function fakeWorkloadApi(options: FakeWorkloadApiOptions): Promise<FakeWorkloadApi> {
  const { authority, now = () => new Date() } = options
  const folder = await tempFolder()
  const path = folder.file('api.sock')
  const emitter = new EventEmitter()
  const calls: RecordedCall[] = []
  const failures = new Map<FakeMethod, FakeFailure[]>()
  const hanging = new Set<FakeMethod>()
  const streams = new Map<StreamMethod, Set<AnyStream>>()
  let identities = options.identities ?? [{ id: '/web' }]
  let federated = options.federated ?? []
  let jwtAnswer: JWTSVIDResponse | undefined
  const issue = () => identities.map((identity) => authority.issueX509(identity))
  let svids = issue()

  const messages: Record<StreamMethod, () => object> = {
    fetchX509Svid: () => x509Message(svids, authority, federated),
    fetchX509Bundles: () => x509Bundles([authority, ...federated]),
    fetchJwtBundles: () => jwtBundles([authority, ...federated]),
  }
  const openStreams = () => [...streams.values()].flatMap((set) => [...set])
  const announce = () => {
    for (const [method, open] of streams) {
      for (const stream of open) {
        if (svids.length === 0) fail(stream, NOTHING)
        else stream.write(messages[method]())
      }
    }
  }
  /** Undefined if the call may go on. */
  const admit = (method: FakeMethod, call: Recordable): FakeFailure | undefined => {
    const { metadata, request } = call
    calls.push({ method, request, metadata, deadline: Number(call.getDeadline()) })
    emitter.emit('call')
    if (metadata.get('workload.spiffe.io').join() !== 'true') {
      return { code: status.INVALID_ARGUMENT, details: 'security header missing' }
    }
    return failures.get(method)?.shift() ?? (svids.length === 0 ? NOTHING : undefined)
  }
  const streaming = (method: StreamMethod) => (call: AnyStream) => {
    const failure = admit(method, call)
    if (failure) {
      fail(call, failure)
      return
    }
    const open = streams.get(method) ?? new Set()
    streams.set(method, open.add(call))
    call.on('cancelled', () => open.delete(call))
    call.on('error', () => open.delete(call))
    call.on('finish', () => open.delete(call))
    if (!hanging.has(method)) call.write(messages[method]())
  }

  const grpc = new Server()
  grpc.addService(unchecked(SpiffeWorkloadAPIService), {
    fetchX509Svid: streaming('fetchX509Svid'),
    fetchX509Bundles: streaming('fetchX509Bundles'),
    fetchJwtBundles: streaming('fetchJwtBundles'),
    fetchJwtsvid(
      call: ServerUnaryCall<JWTSVIDRequest, JWTSVIDResponse>,
      done: sendUnaryData<JWTSVIDResponse>,
    ) {
      const failure = admit('fetchJwtsvid', call)
      if (hanging.has('fetchJwtsvid')) return
      if (failure) done(failure)
      else done(null, jwtAnswer ?? issueJwts(call.request, svids, authority))
    },
    validateJwtsvid(
      call: ServerUnaryCall<ValidateJWTSVIDRequest, ValidateJWTSVIDResponse>,
      done: sendUnaryData<ValidateJWTSVIDResponse>,
    ) {
      const failure = admit('validateJwtsvid', call)
      if (failure) done(failure)
      else validate({ request: call.request, authority, now: now() }, done)
    },
  })
  const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure())
  const listener = connectionListener((socket) => injector.injectConnection(socket))
  await listener.start(options.tcp ? { host: '127.0.0.1', port: 0 } : { path })

  const close = async () => {
    await listener.stop()
    grpc.forceShutdown()
    await folder[Symbol.asyncDispose]()
  }
  return {
    get address() {
      return options.tcp ? `tcp://127.0.0.1:${listener.port()}` : `unix://${path}`
    },
    path,
    calls,
    async called(method, times) {
      while (calls.filter((call) => call.method === method).length < times) {
        await once(emitter, 'call')
      }
    },
    connections: listener.accepted,
    rotate() {
      svids = issue()
      announce()
    },
    grant(next) {
      identities = next
      svids = issue()
      announce()
    },
    withdraw() {
      svids = []
      announce()
    },
    federate(authorities) {
      federated = authorities
      announce()
    },
    x509Message: () => x509Message(svids, authority, federated),
    push(method, message) {
      for (const stream of streams.get(method) ?? []) stream.write(message)
    },
    endStreams() {
      for (const stream of openStreams()) stream.end()
    },
    failStreams(failure) {
      for (const stream of openStreams()) fail(stream, failure)
    },
    failNext: (method, ...next) => void failures.set(method, [...next]),
    answerJwt(answer) {
      jwtAnswer = answer
    },
    hang(method, on) {
      if (on) hanging.add(method)
      else hanging.delete(method)
    },
    dropConnections: listener.drop,
    stop: () => listener.stop(),
    start: () =>
      listener.start(options.tcp ? { host: '127.0.0.1', port: listener.port() } : { path }),
    [Symbol.asyncDispose]: close,
  }
}

function fail(stream: AnyStream, failure: FakeFailure): void {
  stream.emit('error', { ...failure, metadata: new Metadata() })
}

/** Lets a Buffer through unserialised, so that a test can send what no serialiser would. */
function unchecked(service: typeof SpiffeWorkloadAPIService): ServiceDefinition {
  const methods = Object.entries(service).map(([name, method]) => {
    const responseSerialize = (value: unknown) =>
      Buffer.isBuffer(value) ? value : (method.responseSerialize as (v: unknown) => Buffer)(value)
    return [name, { ...method, responseSerialize }]
  })
  return Object.fromEntries(methods) as ServiceDefinition
}

/** Listens on its own, because grpc-js can neither drop a connection nor listen twice. */
function connectionListener(onSocket: (socket: Socket) => void) {
  const sockets = new Set<Socket>()
  let server: NetServer | undefined
  let port = 0
  let accepted = 0
  const drop = () => {
    for (const socket of sockets) socket.destroy()
  }
  return {
    accepted: () => accepted,
    port: () => port,
    drop,
    async start(
      where: { readonly path: string } | { readonly host: string; readonly port: number },
    ) {
      server = createServer((socket) => {
        accepted += 1
        sockets.add(socket)
        socket.on('close', () => sockets.delete(socket))
        onSocket(socket)
      }).listen(where)
      await once(server, 'listening')
      const bound = server.address()
      if (bound && typeof bound === 'object') port = bound.port
    },
    async stop() {
      if (!server?.listening) return
      const closed = once(server, 'close')
      server.close()
      drop()
      await closed
    },
  }
}

function x509Message(
  svids: readonly X509Svid[],
  authority: TestAuthority,
  federated: readonly TestAuthority[],
): X509SVIDResponse {
  return {
    svids: svids.map((svid) => ({
      spiffeId: svid.id,
      x509Svid: Buffer.concat(svid.chain.map(({ der }) => der)),
      x509SvidKey: svid.privateKey.export({ type: 'pkcs8', format: 'der' }),
      bundle: derOf(authority.bundle),
      hint: svid.hint ?? '',
    })),
    crl: [],
    federatedBundles: bundleMap(federated, derOf),
  }
}

function x509Bundles(authorities: readonly TestAuthority[]): X509BundlesResponse {
  return { crl: [], bundles: bundleMap(authorities, derOf) }
}

function jwtBundles(authorities: readonly TestAuthority[]): JWTBundlesResponse {
  return { bundles: bundleMap(authorities, (bundle) => Buffer.from(jwtKeySetOf(bundle))) }
}

function bundleMap(
  authorities: readonly TestAuthority[],
  encode: (bundle: TrustBundle) => Uint8Array,
): Map<string, Uint8Array> {
  return new Map(
    authorities.map(({ trustDomain, bundle }) => [idOfTrustDomain(trustDomain), encode(bundle)]),
  )
}

function derOf(bundle: TrustBundle): Uint8Array {
  return Buffer.concat(bundle.x509Authorities.map(({ der }) => der))
}

function issueJwts(
  { audience, spiffeId }: JWTSVIDRequest,
  svids: readonly X509Svid[],
  authority: TestAuthority,
): JWTSVIDResponse {
  const asked = svids.filter(({ id }) => spiffeId === '' || id === spiffeId)
  return {
    svids: asked.map(({ id, hint }) => ({
      spiffeId: id,
      svid: authority.issueJwt({ id, audience }),
      hint: hint ?? '',
    })),
  }
}

function validate(
  asked: { request: ValidateJWTSVIDRequest; authority: TestAuthority; now: Date },
  done: sendUnaryData<ValidateJWTSVIDResponse>,
): void {
  const { request, authority, now } = asked
  try {
    const { id, claims } = verifyJwtSvid({
      token: request.svid,
      audience: request.audience,
      bundles: bundleSet([authority.bundle]),
      now,
    })
    done(null, { spiffeId: id, claims: { ...claims } })
  } catch (error) {
    const details = error instanceof SpiffeError ? error.message : 'token cannot be read'
    done({ code: status.INVALID_ARGUMENT, details })
  }
}

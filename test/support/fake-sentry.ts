import { once } from 'node:events'
import type { Socket } from 'node:net'
import { createServer, type TLSSocket } from 'node:tls'
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServiceError,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js'
import type { Clock } from '../../platform/clock.js'
import { listenOn } from '../../platform/listen.js'
import type { SignedSnapshot } from '../../proto/gen/countersign/policy/v1/policy.js'
import {
  type Acknowledgement,
  type FollowRequest,
  FollowResponse,
  UpdatesService,
} from '../../proto/gen/countersign/sentry/v1/updates.js'
import {
  AgentService,
  type AttestAgentRequest,
  type AttestAgentResponse,
  type PostStatusRequest,
  type RenewAgentRequest,
} from '../../proto/gen/spire/api/server/agent/v1/agent.js'
import {
  BundleService,
  type GetFederatedBundleRequest,
} from '../../proto/gen/spire/api/server/bundle/v1/bundle.js'
import {
  EntryService,
  type SyncAuthorizedEntriesRequest,
  type SyncAuthorizedEntriesResponse,
} from '../../proto/gen/spire/api/server/entry/v1/entry.js'
import {
  type BatchNewX509SVIDRequest,
  type NewJWTSVIDRequest,
  SVIDService,
} from '../../proto/gen/spire/api/server/svid/v1/svid.js'
import {
  Bundle,
  type Entry,
  PermissionDeniedDetails_Reason as Reason,
} from '../../proto/gen/spire/api/types/types.js'
import {
  bundleSet,
  makeSpiffeId,
  peerVerifier,
  type SpiffeId,
  type TrustBundle,
  type X509Svid,
} from '../../spiffe/index.js'
import { serverTlsOptions, verifyTlsPeer } from '../../spiffe/tls/index.js'
import type { TestAuthority } from './authority.js'
import { issueForCsr, issueToken } from './issue-for-csr.js'
import { type Failure, refusal, wireBundle } from './sentry-values.js'

export { entry, type Failure, wireBundle } from './sentry-values.js'

export interface FakeSentryOptions {
  readonly authority: TestAuthority
  readonly clock: Clock
  /** Whether it has the push stream; without it, it is to the agent what a SPIRE server is. */
  readonly push?: boolean
  /** Presented instead of an SVID for `/spire/server` of the authority. */
  readonly identity?: X509Svid
  readonly agentTtlMs?: number
  readonly x509TtlMs?: number
  readonly jwtTtlSeconds?: number
  /** Entries in one message of SyncAuthorizedEntries. */
  readonly pageSize?: number
}

/** What an agent called, and with which certificate. */
export interface SentryCall {
  readonly method: string
  /** Lower-case hex; undefined for a caller without a certificate. */
  readonly serial: string | undefined
}

/**
 * A sentry that keeps nothing on disk: a real gRPC server on real mTLS, with SPIRE's rules for agents
 * and their serial numbers, whose state a test sets and whose failures it chooses.
 */
export interface FakeSentry extends AsyncDisposable {
  readonly address: string
  readonly calls: readonly SentryCall[]
  readonly acknowledgements: readonly Acknowledgement[]
  readonly agentVersions: readonly string[]
  /** Entries given in answer to SyncAuthorizedEntries, in full and not as revisions. */
  entriesSent(): number
  /** Streams open at this moment. */
  followers(): number
  /** How many TLS connections have been opened. */
  connections(): number
  /** Resolves once `met` holds, which is looked at after every call, message and hang-up. */
  until(met: () => boolean, what?: string): Promise<void>
  count(method: string): number
  addToken(token: string): void
  /** Changes entries and pushes the change. */
  setEntries(...entries: readonly Entry[]): void
  removeEntries(...ids: readonly string[]): void
  setBundles(...bundles: readonly Bundle[]): void
  removeBundles(...trustDomains: readonly string[]): void
  setSnapshots(...snapshots: readonly SignedSnapshot[]): void
  /** Signs from now on with another authority of the same trust domain, also its own certificate; trusts `bundle`. */
  useAuthority(authority: TestAuthority, bundle?: TrustBundle): void
  /** Sends bytes of one's own choice to all followers. */
  push(message: Partial<FollowResponse>): void
  /** Calls of the method fail until the failure is taken back with `undefined`. */
  fail(method: string, failure: Failure | undefined): void
  /** Decides per entry id whether an X.509 request is refused. */
  refuseEntry(id: string, refusal: string | undefined): void
  ban(agent: SpiffeId): void
  evict(agent: SpiffeId): void
  agent(id: SpiffeId): AgentRecord | undefined
  /** Knows the agents of another sentry from now on, as replicas do. */
  adopt(other: FakeSentry): void
  readonly agents: ReadonlyMap<string, AgentRecord>
  /** Ends all streams in good order, as a sentry does that shuts down. */
  endStreams(): void
  /** Asks all callers to come back on a new connection, as a SPIRE server does every few minutes. */
  goAway(): void
  /** Goes away: closes every connection and listens no more. */
  stop(): Promise<void>
  /** Comes back at the same address. */
  start(): Promise<void>
}

export interface AgentRecord {
  /** Lower-case hex; empty when banned. */
  serial: string
  pending: string
}

interface Peer {
  readonly id: SpiffeId
  readonly serial: string
  readonly notAfter: number
}

type Follower = ServerDuplexStream<FollowRequest, FollowResponse>

export async function fakeSentry(options: FakeSentryOptions): Promise<FakeSentry> {
  const { clock, push = true, pageSize = 500 } = options
  let authority = options.authority
  let trusted = authority.bundle
  const { trustDomain } = authority
  const calls: SentryCall[] = []
  const acknowledgements: Acknowledgement[] = []
  const agentVersions: string[] = []
  const tokens = new Set<string>()
  const agents = new Map<string, AgentRecord>()
  const entries = new Map<string, Entry>()
  const bundles = new Map<string, Bundle>([[trustDomain, wireBundle(authority.bundle)]])
  const snapshots = new Map<string, SignedSnapshot>()
  const failures = new Map<string, Failure>()
  const refusals = new Map<string, string>()
  const peers = new Map<string, Peer>()
  const followers = new Set<Follower>()
  const watchers = new Set<() => void>()
  let sequence = 1n
  let opened = 0
  let sent = 0
  const now = () => clock.now().getTime()
  const happened = () => {
    for (const watcher of Array.from(watchers)) watcher()
  }

  // --- TLS ---------------------------------------------------------------------------------------

  const server = new Server({ 'grpc.enable_channelz': 0 })
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure())
  const sockets = new Set<Socket>()
  const ownIdentity = () => options.identity ?? authority.issueX509({ id: '/spire/server' })
  const listener = createServer({ ...serverTlsOptions(ownIdentity()), ALPNProtocols: ['h2'] })
  listener.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => {})
  })
  listener.on('tlsClientError', () => {})
  listener.on('secureConnection', (socket: TLSSocket) => {
    socket.on('error', () => socket.destroy())
    try {
      accept(socket)
    } catch {
      socket.destroy()
    }
    happened()
  })

  function accept(socket: TLSSocket): void {
    const key = `${socket.remoteAddress}:${socket.remotePort}`
    const peer = judge(socket)
    if (peer) peers.set(key, peer)
    opened += 1
    socket.once('close', () => {
      peers.delete(key)
      happened()
    })
    injector.injectConnection(socket)
  }

  /** Undefined for a caller without a certificate, which is how agents attest. */
  function judge(socket: TLSSocket): Peer | undefined {
    const certificate = socket.getPeerCertificate()
    if (certificate.raw === undefined) return undefined
    const verifier = peerVerifier({ bundles: bundleSet([trusted]) })
    const { id, chain } = verifyTlsPeer(socket, { verifier, now: clock.now(), usage: 'client' })
    return { id, serial: chain[0].serialNumber, notAfter: chain[0].notAfter }
  }

  // --- who calls, and what becomes of it -----------------------------------------------------------

  interface Surface {
    getPeer(): string
    sendMetadata(metadata: Metadata): void
  }

  function enter(method: string, call: Surface): Failure | undefined {
    calls.push({ method, serial: peers.get(call.getPeer())?.serial })
    // Node would write the time of the machine.
    const headers = new Metadata()
    headers.set('date', clock.now().toUTCString())
    call.sendMetadata(headers)
    happened()
    return failures.get(method)
  }

  /** SPIRE's check of an agent: the current serial passes, the pending one becomes current. */
  function agentOf(call: Surface): Peer {
    const peer = peers.get(call.getPeer())
    if (!peer) throw refusal({ code: status.PERMISSION_DENIED })
    const record = agents.get(peer.id)
    const denied = (reason: Reason) => refusal({ code: status.PERMISSION_DENIED, reason })
    if (peer.notAfter < now()) throw denied(Reason.AGENT_EXPIRED)
    if (!record) throw denied(Reason.AGENT_NOT_ATTESTED)
    if (record.serial === '') throw denied(Reason.AGENT_BANNED)
    if (peer.serial === record.pending) {
      record.serial = record.pending
      record.pending = ''
    }
    if (peer.serial !== record.serial) throw denied(Reason.AGENT_NOT_ACTIVE)
    return peer
  }

  function unary<Request, Response>(
    method: string,
    serve: (request: Request, call: ServerUnaryCall<Request, Response>) => Response,
  ) {
    return (call: ServerUnaryCall<Request, Response>, done: sendUnaryData<Response>) => {
      const failure = enter(method, call)
      if (failure === 'hang') return
      try {
        if (failure) throw refusal(failure)
        done(null, serve(call.request, call))
      } catch (error) {
        done(error as ServiceError)
      }
      happened()
    }
  }

  // --- services --------------------------------------------------------------------------------------

  server.addService(AgentService, {
    attestAgent(call: ServerDuplexStream<AttestAgentRequest, AttestAgentResponse>) {
      const failure = enter('AttestAgent', call)
      call.on('error', () => {})
      call.once('data', (request: AttestAgentRequest) => {
        if (failure === 'hang') return
        try {
          if (failure) throw refusal(failure)
          call.write({ step: { $case: 'result', value: attest(request) } })
          call.end()
        } catch (error) {
          call.emit('error', error)
        }
        happened()
      })
    },
    renewAgent: unary('RenewAgent', ({ params }: RenewAgentRequest, call) => {
      const { id } = agentOf(call)
      const { svid, serial } = issue(params?.csr, id, options.agentTtlMs)
      const record = agents.get(id)
      if (record) record.pending = serial
      return { svid }
    }),
    postStatus: unary('PostStatus', (request: PostStatusRequest, call) => {
      agentOf(call)
      agentVersions.push(request.agentVersion)
      return {}
    }),
    ...unserved('countAgents', 'listAgents', 'getAgent', 'deleteAgent', 'banAgent'),
    ...unserved('createJoinToken'),
  })

  function attest({ step }: AttestAgentRequest) {
    if (step?.$case !== 'params') throw refusal({ code: status.INVALID_ARGUMENT })
    const { data, params } = step.value
    const token = Buffer.from(data?.payload ?? []).toString('utf8')
    if (data?.type !== 'join_token' || !tokens.delete(token)) {
      const details = 'failed to attest: join token does not exist or has already been used'
      throw refusal({ code: status.INVALID_ARGUMENT, details })
    }
    const id = makeSpiffeId(trustDomain, `/spire/agent/join_token/${token}`)
    const { svid, serial } = issue(params?.csr, id, options.agentTtlMs)
    agents.set(id, { serial, pending: '' })
    return { svid, reattestable: false }
  }

  server.addService(BundleService, {
    getBundle: unary('GetBundle', () => bundles.get(trustDomain) ?? Bundle.create()),
    getFederatedBundle: unary('GetFederatedBundle', (request: GetFederatedBundleRequest, call) => {
      agentOf(call)
      const bundle = bundles.get(request.trustDomain)
      if (!bundle) throw refusal({ code: status.NOT_FOUND, details: 'bundle not found' })
      return bundle
    }),
    ...unserved('countBundles', 'appendBundle', 'publishJwtAuthority', 'publishWitAuthority'),
    ...unserved('listFederatedBundles', 'batchCreateFederatedBundle'),
    ...unserved('batchUpdateFederatedBundle', 'batchSetFederatedBundle'),
    ...unserved('batchDeleteFederatedBundle'),
  })

  server.addService(EntryService, {
    async syncAuthorizedEntries(
      call: ServerDuplexStream<SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse>,
    ) {
      const failure = enter('SyncAuthorizedEntries', call)
      call.on('error', () => {})
      if (failure === 'hang') return
      try {
        if (failure) throw refusal(failure)
        agentOf(call)
        await sync(call)
      } catch (error) {
        call.emit('error', error)
      }
    },
    ...unserved('countEntries', 'listEntries', 'getEntry', 'batchCreateEntry'),
    ...unserved('batchUpdateEntry', 'batchDeleteEntry', 'getAuthorizedEntries'),
  })

  async function sync(
    call: ServerDuplexStream<SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse>,
  ): Promise<void> {
    const known = [...entries.values()]
    let first = true
    for await (const { ids, outputMask } of call as AsyncIterable<SyncAuthorizedEntriesRequest>) {
      if (first) {
        if (ids.length > 0 || (outputMask && !outputMask.revisionNumber)) {
          throw refusal({ code: status.INVALID_ARGUMENT })
        }
        if (known.length <= pageSize) {
          sent += known.length
          call.write({ entries: known, entryRevisions: [], more: false })
          call.end()
          return
        }
        inPages(known, (page, more) =>
          call.write({ entryRevisions: page.map(revisionOf), entries: [], more }),
        )
        first = false
        continue
      }
      if (ids.length > pageSize) throw refusal({ code: status.INVALID_ARGUMENT })
      const found = ids.map((id) => entries.get(id)).filter((entry) => entry !== undefined)
      sent += found.length
      inPages(found, (page, more) => call.write({ entries: page, entryRevisions: [], more }))
    }
    call.end()
  }

  function inPages(items: readonly Entry[], send: (page: Entry[], more: boolean) => void): void {
    for (let at = 0; at === 0 || at < items.length; at += pageSize) {
      send(items.slice(at, at + pageSize), at + pageSize < items.length)
    }
  }

  server.addService(SVIDService, {
    batchNewX509Svid: unary('BatchNewX509SVID', ({ params }: BatchNewX509SVIDRequest, call) => {
      agentOf(call)
      return {
        results: params.map(({ entryId, csr }) => {
          const entry = entries.get(entryId)
          const refused = entry ? refusals.get(entryId) : 'entry not found or not authorized'
          if (refused !== undefined || !entry) {
            return { status: { code: status.NOT_FOUND, message: refused ?? '' }, svid: undefined }
          }
          const id = makeSpiffeId(trustDomain, entry.spiffeId?.path ?? '')
          const { svid } = issueFor({ csr, id, ttlMs: options.x509TtlMs, dnsNames: entry.dnsNames })
          return { status: { code: 0, message: 'OK' }, svid }
        }),
      }
    }),
    newJwtsvid: unary('NewJWTSVID', ({ entryId, audience }: NewJWTSVIDRequest, call) => {
      agentOf(call)
      const entry = entries.get(entryId)
      if (!entry) {
        throw refusal({ code: status.NOT_FOUND, details: 'entry not found or not authorized' })
      }
      return {
        svid: issueToken(authority, {
          id: makeSpiffeId(trustDomain, entry.spiffeId?.path ?? ''),
          audience,
          now: now(),
          ttlSeconds: options.jwtTtlSeconds,
          jti: String(calls.length),
        }),
      }
    }),
    ...unserved('mintX509Svid', 'mintJwtsvid', 'mintWitsvid', 'batchNewWitsvid'),
    ...unserved('newDownstreamX509Ca'),
  })

  if (push) {
    server.addService(UpdatesService, {
      follow(call: Follower) {
        const failure = enter('Follow', call)
        call.on('error', () => {})
        if (failure === 'hang') return
        try {
          if (failure) throw refusal(failure)
          agentOf(call)
        } catch (error) {
          call.emit('error', error)
          return
        }
        call.on('data', ({ step }: FollowRequest) => {
          if (step?.$case === 'start') agentVersions.push(step.value.agentVersion)
          if (step?.$case === 'acknowledgement') acknowledgements.push(step.value)
          if (step?.$case === 'start') begin(call)
          happened()
        })
        const gone = () => {
          followers.delete(call)
          happened()
        }
        call.on('end', gone).on('cancelled', gone).on('close', gone)
      },
    })
  }

  function begin(call: Follower): void {
    followers.add(call)
    call.write(
      FollowResponse.fromPartial({
        sequence,
        full: true,
        entries: [...entries.values()],
        bundles: [...bundles.values()],
        snapshots: [...snapshots.values()],
      }),
    )
  }

  function tell(message: Partial<FollowResponse>): void {
    sequence += 1n
    for (const call of followers) call.write(FollowResponse.fromPartial({ sequence, ...message }))
  }

  function issue(csr: Uint8Array | undefined, id: SpiffeId, ttlMs?: number) {
    return issueFor({ csr, id, ttlMs })
  }

  function issueFor(request: {
    readonly csr: Uint8Array | undefined
    readonly id: SpiffeId
    readonly ttlMs: number | undefined
    readonly dnsNames?: readonly string[]
  }) {
    try {
      return issueForCsr(authority, {
        ...request,
        csr: request.csr ?? new Uint8Array(),
        now: now(),
      })
    } catch (error) {
      throw refusal({ code: status.INVALID_ARGUMENT, details: (error as Error).message })
    }
  }

  let address = ''
  await start()

  async function start(): Promise<void> {
    const port = address === '' ? 0 : Number(address.split(':')[1])
    const bound = await listenOn(listener, { host: '127.0.0.1', port })
    address = `127.0.0.1:${bound.port}`
  }

  async function stop(): Promise<void> {
    if (!listener.listening) return
    const closed = once(listener, 'close')
    listener.close()
    for (const socket of sockets) socket.destroy()
    await closed
    followers.clear()
  }

  return {
    get address() {
      return address
    },
    calls,
    acknowledgements,
    agentVersions,
    entriesSent: () => sent,
    followers: () => followers.size,
    connections: () => opened,
    until: (met, what = 'what the test waits for') => until(watchers, met, what),
    count: (method) => calls.filter((call) => call.method === method).length,
    addToken: (token) => tokens.add(token),
    setEntries(...changed) {
      for (const each of changed) entries.set(each.id, each)
      tell({ entries: [...changed] })
    },
    removeEntries(...ids) {
      for (const id of ids) entries.delete(id)
      tell({ removedEntryIds: [...ids] })
    },
    setBundles(...changed) {
      for (const bundle of changed) bundles.set(bundle.trustDomain, bundle)
      tell({ bundles: [...changed] })
    },
    removeBundles(...names) {
      for (const each of names) bundles.delete(each)
      tell({ removedTrustDomains: [...names] })
    },
    setSnapshots(...changed) {
      for (const snapshot of changed) snapshots.set(snapshot.target, snapshot)
      tell({ snapshots: [...changed] })
    },
    useAuthority(next, bundle = next.bundle) {
      authority = next
      trusted = bundle
      listener.setSecureContext(serverTlsOptions(ownIdentity()))
    },
    push: tell,
    fail(method, failure) {
      if (failure) failures.set(method, failure)
      else failures.delete(method)
    },
    refuseEntry(id, reason) {
      if (reason === undefined) refusals.delete(id)
      else refusals.set(id, reason)
    },
    ban(agent) {
      const record = agents.get(agent)
      if (record) Object.assign(record, { serial: '', pending: '' })
      hangUp(Reason.AGENT_BANNED)
    },
    evict(agent) {
      agents.delete(agent)
      hangUp(Reason.AGENT_NOT_ATTESTED)
    },
    agent: (id) => agents.get(id),
    agents,
    adopt(other) {
      for (const [id, record] of other.agents) agents.set(id, record)
    },
    goAway() {
      injector.drain(60_000)
    },
    endStreams() {
      for (const call of followers) call.end()
    },
    stop,
    start,
    async [Symbol.asyncDispose]() {
      await stop()
      injector.destroy()
      server.forceShutdown()
    },
  }

  function hangUp(reason: Reason): void {
    for (const call of followers) {
      call.emit('error', refusal({ code: status.PERMISSION_DENIED, reason }))
    }
  }
}

function until(watchers: Set<() => void>, met: () => boolean, what: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const deadline = setTimeout(() => {
      watchers.delete(look)
      reject(new Error(`did not happen: ${what}`))
    }, 15_000)
    const look = () => {
      if (!met()) return
      clearTimeout(deadline)
      watchers.delete(look)
      resolve()
    }
    watchers.add(look)
    look()
  })
}

function revisionOf({ id, revisionNumber, createdAt }: Entry) {
  return { id, revisionNumber, createdAt }
}

function unserved(...names: readonly string[]): Record<string, (...args: never[]) => void> {
  const refuse = (_call: unknown, done: (error: unknown) => void) =>
    done(refusal({ code: status.UNIMPLEMENTED }))
  return Object.fromEntries(names.map((each) => [each, refuse]))
}

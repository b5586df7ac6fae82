import { EventEmitter } from 'node:events'
import { createServer, type Socket } from 'node:net'
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type status,
} from '@grpc/grpc-js'
import {
  type FollowPolicyRequest,
  type FollowPolicyResponse,
  SidecarService,
} from '../../proto/gen/countersign/agent/v1/local.js'
import type {
  SignedSnapshot,
  SnapshotReport,
} from '../../proto/gen/countersign/policy/v1/policy.js'

type Call = ServerDuplexStream<FollowPolicyRequest, FollowPolicyResponse>

/** One policy stream, as the agent sees it. */
export interface FakePolicyStream {
  readonly metadata: Metadata
  readonly received: readonly FollowPolicyRequest[]
  readonly reports: readonly SnapshotReport[]
  /** Resolves once so many messages have come. */
  heard(count: number): Promise<void>
  /** Resolves when the sidecar has given it up. */
  readonly cancelled: Promise<void>
  send(snapshot: SignedSnapshot | undefined): void
  end(): void
  fail(code: status, details: string): void
}

/** The policy service of an agent, which says only what a test tells it to. */
export interface FakePolicyAgent extends AsyncDisposable {
  readonly path: string
  /** The next stream that is opened, or one that nobody has asked for yet. */
  nextStream(): Promise<FakePolicyStream>
  /** Gone like a process that was killed. */
  kill(): Promise<void>
  /** Listens on the same path again. */
  start(): Promise<void>
  readonly openConnections: number
}

export async function fakePolicyAgent(path: string): Promise<FakePolicyAgent> {
  const events = new EventEmitter()
  const streams: FakePolicyStream[] = []
  const sockets = new Set<Socket>()
  const grpc = new Server()
  grpc.addService(SidecarService, {
    followPolicy(call: Call) {
      streams.push(fakeStream(call))
      events.emit('stream')
    },
  })
  const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure())
  const listen = () => {
    const server = createServer((socket) => {
      sockets.add(socket)
      socket.on('close', () => {
        sockets.delete(socket)
        events.emit('closed')
      })
      injector.injectConnection(socket)
    })
    return new Promise<typeof server>((resolve, reject) => {
      server.once('error', reject).listen({ path }, () => resolve(server))
    })
  }
  let listening = await listen()
  const kill = async () => {
    const closed = new Promise((resolve) => listening.close(resolve))
    for (const socket of sockets) socket.destroy()
    await closed
  }
  return {
    path,
    async nextStream() {
      while (streams.length === 0) await new Promise((resolve) => events.once('stream', resolve))
      return streams.shift() as FakePolicyStream
    },
    kill,
    async start() {
      listening = await listen()
    },
    get openConnections() {
      return sockets.size
    },
    async [Symbol.asyncDispose]() {
      if (listening.listening) await kill()
      grpc.forceShutdown()
    },
  }
}

function fakeStream(call: Call): FakePolicyStream {
  const received: FollowPolicyRequest[] = []
  const events = new EventEmitter()
  const cancelled = new Promise<void>((resolve) => call.once('cancelled', resolve))
  call.on('data', (message: FollowPolicyRequest) => {
    received.push(message)
    events.emit('message')
  })
  call.on('error', () => undefined)
  return {
    metadata: call.metadata,
    received,
    get reports() {
      return received.flatMap(({ step }) => (step?.$case === 'report' ? [step.value] : []))
    },
    async heard(count) {
      while (received.length < count) {
        await new Promise((resolve) => events.once('message', resolve))
      }
    },
    cancelled,
    send: (snapshot) => void call.write({ snapshot }),
    end: () => call.end(),
    fail: (code, details) => call.emit('error', { code, details, metadata: new Metadata() }),
  }
}

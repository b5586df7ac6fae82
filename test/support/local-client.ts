import {
  type ClientReadableStream,
  credentials,
  Metadata,
  type ServiceError,
  type status,
} from '@grpc/grpc-js'
import { DiagnosisClient, SidecarClient } from '../../proto/gen/countersign/agent/v1/local.js'
import { SpiffeWorkloadAPIClient } from '../../spiffe/workload-api/index.js'

/** Stock gRPC clients of the agent's local sockets, each on a connection of its own. */
export interface LocalClient extends Disposable {
  readonly workload: SpiffeWorkloadAPIClient
  readonly sidecar: SidecarClient
  readonly diagnosis: DiagnosisClient
}

export function localClient(path: string): LocalClient {
  const made: { close(): void }[] = []
  const on = <Client extends { close(): void }>(
    Client: new (address: string, channel: ReturnType<typeof insecure>, options: object) => Client,
  ) => {
    const client = new Client(`unix:${path}`, insecure(), OWN_CONNECTION)
    made.push(client)
    return client
  }
  return {
    workload: on(SpiffeWorkloadAPIClient),
    sidecar: on(SidecarClient),
    diagnosis: on(DiagnosisClient),
    [Symbol.dispose]() {
      for (const client of made) client.close()
    },
  }
}

/** What every SPIFFE client sends. */
export function security(value = 'true'): Metadata {
  const metadata = new Metadata()
  metadata.set('workload.spiffe.io', value)
  return metadata
}

/** The answer of a unary call; rejects with its status. */
export function answer<Response>(
  call: (done: (error: ServiceError | null, response: Response) => void) => unknown,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    call((error, response) => {
      if (error) reject(error)
      else resolve(response)
    })
  })
}

export interface Received<Message> {
  /** The next message. Rejects with the status when the stream ends first. */
  next(): Promise<Message>
  /** How many have come and were not taken. */
  waiting(): number
  /** The status it ends with. */
  readonly ended: Promise<{ readonly code: status; readonly details: string }>
  cancel(): void
}

export function received<Message>(call: ClientReadableStream<Message>): Received<Message> {
  const messages: Message[] = []
  const takers: { resolve(message: Message): void; reject(reason: unknown): void }[] = []
  call.on('data', (message: Message) => {
    const taker = takers.shift()
    if (taker) taker.resolve(message)
    else messages.push(message)
  })
  call.on('error', () => undefined)
  const ended = new Promise<{ code: status; details: string }>((resolve) => {
    call.on('status', ({ code, details }) => {
      for (const { reject } of takers.splice(0)) reject({ code, details })
      resolve({ code, details })
    })
  })
  return {
    ended,
    waiting: () => messages.length,
    cancel: () => call.cancel(),
    async next() {
      const message = messages.shift()
      if (message !== undefined) return message
      return new Promise((resolve, reject) => {
        takers.push({ resolve, reject })
        void ended.then(reject)
      })
    },
  }
}

const insecure = () => credentials.createInsecure()
const OWN_CONNECTION = { 'grpc.use_local_subchannel_pool': 1 }

import { createServer, type Server as NetServer, type Socket } from 'node:net'
import {
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js'
import type { Clock } from '../../platform/clock.js'
import type { Log } from '../../platform/log.js'
import { admission } from './admission.js'
import type { AcceptedOn, Connections } from './connections.js'
import type { Journal } from './journal.js'
import type { Limits } from './limits.js'
import { listenAt, type SocketPlace } from './socket.js'

export interface LocalService {
  readonly definition: ServiceDefinition
  readonly handlers: UntypedServiceImplementation
}

export interface LocalServerOptions {
  readonly sockets: readonly (SocketPlace & AcceptedOn)[]
  readonly services: readonly LocalService[]
  readonly connections: Connections
  readonly limits: Limits
  readonly clock: Clock
  readonly journal: Journal
  readonly log: Log
}

export interface LocalServer {
  /** Stops listening, lets calls in progress end for a moment and closes what is left. */
  close(): Promise<void>
}

/** How long callers have to take the last answer when the server closes. */
const CLOSING_MS = 1000

/**
 * gRPC on Unix sockets that are accepted here, so that the caller of each connection is known before a
 * byte of it is read. Throws as {@link listenAt} does; nothing listens then.
 */
export async function openLocalServer(options: LocalServerOptions): Promise<LocalServer> {
  const { sockets, services, connections, limits, journal, log } = options
  const server = new Server({
    interceptors: [admission({ connections, limits, journal })],
    'grpc.enable_channelz': 0,
    'grpc.max_receive_message_length': limits.messageBytes,
    'grpc.max_concurrent_streams': limits.streamsPerConnection,
    'grpc.max_connection_idle_ms': limits.idleMs,
  })
  for (const { definition, handlers } of services) server.addService(definition, handlers)
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure())

  const listeners: NetServer[] = []
  const close = async () => {
    const closed = listeners.map((listener) => closeListener(listener))
    injector.destroy()
    await drained(options)
    connections.closeAll()
    server.forceShutdown()
    await Promise.all(closed)
  }
  try {
    for (const socket of sockets) {
      const listener = createServer((connection) => {
        if (connections.accept(connection, socket)) injector.injectConnection(guarded(connection))
      })
      // Out of descriptors, for example: the listener goes on.
      listener.on('error', (error) => {
        if (listener.listening)
          log.error({ socket: socket.path, reason: error.message }, 'accept failed')
      })
      listeners.push(listener)
      await listenAt(listener, socket)
    }
  } catch (error) {
    await close()
    throw error
  }
  return { close }
}

/** What a caller does to its connection, such as resetting it, is its own affair. */
function guarded(connection: Socket): Socket {
  return connection.on('error', () => connection.destroy())
}

async function drained({ connections, clock }: LocalServerOptions): Promise<void> {
  const over = new AbortController()
  const waited = clock.sleep(CLOSING_MS, over.signal).catch(() => undefined)
  await Promise.race([connections.empty(), waited])
  over.abort()
}

function closeListener(listener: NetServer): Promise<void> {
  return new Promise((resolve) => {
    listener.close(() => resolve())
  })
}

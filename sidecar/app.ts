import { connect, type Socket } from 'node:net'
import type { Permit } from '../policies/index.js'
import type { Deadlines } from './deadlines.js'
import type { ForwardedHead, Requester, Responder } from './exchange.js'
import type { Failure } from './failures.js'
import { withoutOurs } from './headers.js'
import type { Http1ClientConnection } from './http1/client-connection.js'
import { http1Pool } from './http1/pool.js'
import { sessionPool } from './http2/session-pool.js'
import type { Limits } from './limits.js'

/** Where an app listens: on this machine, or in a Unix socket. */
export type AppAddress =
  | { readonly host: string; readonly port: number }
  | { readonly path: string }

/** What goes along with a request beside what was decided on. */
export type SentAlong = Omit<ForwardedHead, 'method' | 'target'>

/** An app behind the proxy. It takes a permit: there is no way to reach the app without one. */
export interface HttpApp {
  request(permit: Permit, along: SentAlong, requester: Requester): Responder | Failure
  destroy(): void
}

export interface AppOptions {
  readonly address: AppAddress
  readonly limits: Limits
  readonly deadlines: Deadlines
}

/** Shared by all connections: what is read is dealt with before anything else is read. */
const readBuffer = Buffer.allocUnsafeSlow(64 * 1024)

/** Speaks HTTP/1.1 to the app, over connections that are kept. */
export function http1App({ address, limits, deadlines }: AppOptions): HttpApp {
  const pool = http1Pool({
    limits,
    deadlines,
    keepIdle: limits.time.appIdle,
    passedOn: withoutOurs,
  })
  const open = () => {
    let connection: Http1ClientConnection | undefined
    const socket = connectApp(address, (bytes) => connection?.received(bytes))
    connection = pool.add(socket)
    return connection
  }
  return {
    request(permit, along, requester) {
      const head = permittedHead(permit, along)
      const idle = pool.idle()
      if (idle) return idle.request(head, requester)
      if (pool.size >= limits.connection.upstreamConnections) return { code: 'upstream-busy' }
      return open().request(head, requester)
    },
    destroy: () => pool.destroy(),
  }
}

/** Speaks HTTP/2 without TLS to the app, without asking first. */
export function http2App({ address, limits, deadlines }: AppOptions): HttpApp {
  const send = (head: ForwardedHead, requester: Requester): Responder | Failure => {
    const session = pool.usable()
    if (session) return session.request(head, requester)
    if (pool.size >= limits.connection.upstreamConnections) return { code: 'upstream-busy' }
    const socket = connect({ ...address, noDelay: true })
    return pool.add(socket).request(head, requester)
  }
  const pool = sessionPool({
    scheme: 'http',
    limits,
    deadlines,
    keepIdle: limits.time.keepAlive,
    passedOn: withoutOurs,
    again: send,
  })
  return {
    request: (permit, along, requester) => send(permittedHead(permit, along), requester),
    destroy: () => pool.destroy(),
  }
}

/** What was decided on is what is sent on. */
function permittedHead({ request }: Permit, along: SentAlong): ForwardedHead {
  if (request.kind !== 'http') throw new TypeError('a permit for a connection lets no request pass')
  const { host, headers, body, upgrade } = along
  const { method, path, query } = request
  return { method, target: path + query, host, headers, body, upgrade }
}

/** A connection to an app whose bytes are lent to `received`, without a buffer for each read. */
export function connectApp(address: AppAddress, received: (bytes: Buffer) => void): Socket {
  const onread = {
    buffer: readBuffer,
    callback: (length: number) => {
      received(readBuffer.subarray(0, length))
      return true
    },
  }
  return connect({ ...address, allowHalfOpen: true, noDelay: true, onread })
}

import type { Socket } from 'node:net'
import type { Deadlines } from '../deadlines.js'
import type { Headers } from '../exchange.js'
import type { Limits } from '../limits.js'
import { Http1ClientConnection } from './client-connection.js'

export interface Http1PoolOptions {
  readonly limits: Limits
  readonly deadlines: Deadlines
  /** How long an unused connection is kept. */
  readonly keepIdle: number
  /** What of the headers of a response is passed on. */
  readonly passedOn: (headers: Headers) => Headers
}

/** Kept connections to one app or peer. The one used last is used next, so that the others can go. */
export interface Http1Pool {
  /** A connection that waits for a request, if there is one. */
  idle(): Http1ClientConnection | undefined
  /** Takes a new socket in. The caller passes on what it reads. */
  add(socket: Socket): Http1ClientConnection
  readonly size: number
  /** What is open now serves no further request. */
  retire(): void
  destroy(): void
}

export function http1Pool(options: Http1PoolOptions): Http1Pool {
  const open = new Map<Http1ClientConnection, Socket>()
  const free: Http1ClientConnection[] = []
  const callbacks = {
    onFree: (connection: Http1ClientConnection) => void free.push(connection),
    onClose: (connection: Http1ClientConnection) => {
      open.delete(connection)
      const at = free.indexOf(connection)
      if (at !== -1) free.splice(at, 1)
    },
  }
  return {
    get size() {
      return open.size
    },
    idle() {
      for (let last = free.pop(); last; last = free.pop()) if (last.usable) return last
      return undefined
    },
    add(socket) {
      const connection = new Http1ClientConnection({ socket, ...options, ...callbacks })
      open.set(connection, socket)
      return connection
    },
    retire() {
      for (const connection of open.keys()) connection.retire()
    },
    destroy() {
      for (const socket of open.values()) socket.destroy()
    },
  }
}

import type { ForwardedHead, Requester, Responder } from '../exchange.js'
import type { Failure } from '../failures.js'
import { type ClientSessionOptions, Http2ClientSession } from './client-session.js'

export type SessionPoolOptions = Omit<ClientSessionOptions, 'socket' | 'again' | 'onClose'>

/** The HTTP/2 connections to one app or peer; another is needed only when one has no room. */
export interface SessionPool {
  /** One that can take a request now. */
  usable(): Http2ClientSession | undefined
  add(socket: ClientSessionOptions['socket']): Http2ClientSession
  readonly size: number
  retire(): void
  destroy(): void
}

export interface AgainOptions {
  /** Where a request that was refused unseen is sent once more. */
  readonly again: (head: ForwardedHead, requester: Requester) => Responder | Failure
}

export function sessionPool(options: SessionPoolOptions & AgainOptions): SessionPool {
  const sessions = new Set<Http2ClientSession>()
  return {
    get size() {
      return sessions.size
    },
    usable() {
      for (const session of sessions) if (session.usable) return session
      return undefined
    },
    add(socket) {
      const onClose = (closed: Http2ClientSession) => void sessions.delete(closed)
      const session = new Http2ClientSession({ ...options, socket, onClose })
      sessions.add(session)
      return session
    },
    retire() {
      for (const session of sessions) session.retire()
    },
    destroy() {
      for (const session of sessions) session.destroy()
    },
  }
}

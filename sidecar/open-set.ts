import type { Socket } from 'node:net'
import type { CloseReason } from './exchange.js'

/** What serves one connection of a tunnel. */
export interface Member {
  /** Whether something is under way. */
  readonly busy: boolean
  /** Ends when what is under way is complete. */
  drain(): void
  cut(reason: CloseReason): void
}

/** The open connections of one tunnel, each until its socket closes. */
export interface OpenSet<M extends Member> {
  readonly size: number
  readonly busy: number
  [Symbol.iterator](): Iterator<M>
  /** Takes a connection in, or another member for one that is in. It is drained at once if all are. */
  set(socket: Socket, member: M): void
  /** Drains all; resolves when the last is gone. */
  drain(): Promise<void>
  cut(reason: CloseReason): void
}

export function openSet<M extends Member>(): OpenSet<M> {
  const members = new Map<Socket, M>()
  let onEmpty: (() => void) | undefined

  return {
    get size() {
      return members.size
    },
    get busy() {
      return [...members.values()].filter(({ busy }) => busy).length
    },
    [Symbol.iterator]: () => members.values(),
    set(socket, member) {
      if (!members.has(socket)) {
        socket.once('close', () => {
          members.delete(socket)
          if (members.size === 0) onEmpty?.()
        })
      }
      members.set(socket, member)
      if (onEmpty) member.drain()
    },
    drain() {
      for (const member of members.values()) member.drain()
      return new Promise((resolve) => {
        onEmpty = resolve
        if (members.size === 0) resolve()
      })
    },
    cut(reason) {
      for (const member of members.values()) member.cut(reason)
    },
  }
}

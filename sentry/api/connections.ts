import type { Socket } from 'node:net'
import type { ConnectionInjector } from '@grpc/grpc-js'
import type { Caller, CallerBook } from './caller.js'

/** The sockets that a listener has open. grpc-js does not close what was injected into it. */
export interface Connections {
  /** How many are being served. */
  served(): number
  /** Watches over a socket until it is closed. */
  track(socket: Socket): void
  /** Hands the connection to grpc-js under a name by which its calls find the caller. */
  serve(socket: Socket, caller: Caller): void
  /** Resolves when none is being served. */
  drained(): Promise<void>
  destroyAll(): void
}

export function connections(
  callers: CallerBook,
  injectorFor: (caller: Caller) => ConnectionInjector,
): Connections {
  const open = new Set<Socket>()
  const last = new Set<() => void>()
  let served = 0
  return {
    served: () => served,
    track(socket) {
      open.add(socket)
      socket.on('close', () => open.delete(socket))
      // Why a connection broke is of no use here; without a listener it would end the process.
      socket.on('error', () => socket.destroy())
    },
    serve(socket, caller) {
      const name = callers.enter(caller)
      served += 1
      socket.on('close', () => {
        callers.leave(name)
        served -= 1
        if (served === 0) for (const resolve of last) resolve()
      })
      Object.defineProperty(socket, 'remoteAddress', { value: name })
      Object.defineProperty(socket, 'remotePort', { value: undefined })
      injectorFor(caller).injectConnection(socket)
    },
    async drained() {
      if (served > 0) await new Promise<void>((resolve) => last.add(resolve))
    },
    destroyAll() {
      for (const socket of open) socket.destroy()
    },
  }
}

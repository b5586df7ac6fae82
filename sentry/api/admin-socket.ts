import { chmod, lstat, unlink } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { dirname } from 'node:path'
import { umask } from 'node:process'
import type { ConnectionInjector } from '@grpc/grpc-js'
import { systemCode } from '../../platform/errors.js'
import { ensurePrivateFolder } from '../../platform/files.js'
import { listenOn } from '../../platform/listen.js'
import { SentryError } from '../errors.js'
import type { CallerBook } from './caller.js'
import { connections } from './connections.js'

export interface AdminSocketOptions {
  readonly path: string
  /** Mode of the socket; its folder gets the same with the right to enter. Owner alone unless given. */
  readonly group?: boolean
  readonly callers: CallerBook
  readonly injector: ConnectionInjector
  readonly maxConnections: number
}

/** Whoever can open it administers the sentry. */
export interface AdminSocket {
  readonly path: string
  stop(): void
  /** Resolves when nobody is connected any more. */
  drained(): Promise<void>
  destroyAll(): void
}

/**
 * Listens in a folder that only the owner, or its group, can enter. A socket that is left of a
 * predecessor is removed, one that is answered is not: throws `CS_SOCKET_IN_USE`, `CS_FOLDER_UNUSABLE`.
 */
export async function listenOnAdminSocket(options: AdminSocketOptions): Promise<AdminSocket> {
  const { path, group = false, callers, injector, maxConnections } = options
  await ensurePrivateFolder(dirname(path), group ? 0o750 : 0o700)
  await removeStale(path)
  const open = connections(callers, () => injector)
  const server = createServer((socket) => {
    open.track(socket)
    open.serve(socket, { kind: 'local' })
  })
  server.maxConnections = maxConnections
  await listenPrivately(server, { path, group })
  // Accepting may fail when descriptors run out, which is over by itself and no reason to end the process.
  server.on('error', () => undefined)
  return {
    path,
    stop: () => void server.close(),
    drained: () => open.drained(),
    destroyAll: () => open.destroyAll(),
  }
}

async function listenPrivately(
  server: Server,
  { path, group }: { readonly path: string; readonly group: boolean },
): Promise<void> {
  // The socket is made within `listen`: at no moment may others open it.
  const before = umask(group ? 0o007 : 0o177)
  const listening = listenOn(server, { path })
  umask(before)
  await listening
  await chmod(path, group ? 0o770 : 0o600)
}

async function removeStale(path: string): Promise<void> {
  const held = await lstat(path).catch(() => undefined)
  if (!held) return
  if (!held.isSocket()) {
    throw new SentryError('CS_SOCKET_IN_USE', `${path} exists and is not a socket`)
  }
  if (await isAnswered(path)) {
    throw new SentryError('CS_SOCKET_IN_USE', `another process answers on ${path}`)
  }
  await unlink(path)
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.on('connect', () => {
      socket.destroy()
      resolve(true)
    })
    // Anything but a plain refusal, such as a full queue, means that somebody is there.
    socket.on('error', (error) => {
      const code = systemCode(error)
      resolve(code !== 'ECONNREFUSED' && code !== 'ENOENT')
    })
  })
}

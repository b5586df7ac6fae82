import { randomBytes } from 'node:crypto'
import { chmod, link, lstat, mkdir, rename, stat, unlink } from 'node:fs/promises'
import { connect, type Server } from 'node:net'
import { dirname, isAbsolute } from 'node:path'
import { PlatformError, systemCode } from '../../platform/errors.js'
import { AgentError } from '../errors.js'

export interface SocketPlace {
  readonly path: string
  /** Who may connect. */
  readonly mode: number
  /** Of the folder, if it has to be made. */
  readonly folderMode: number
}

/** `sun_path` has 108 bytes, one of them the final NUL. */
const MAX_PATH_BYTES = 107
/** As many callers may wait to be accepted as the system lets wait. */
const BACKLOG = 4096
const WRITABLE_BY_ALL = 0o002
const STICKY = 0o1000
/** Folders on the way to that of the socket. */
const ENTERED_BY_ALL = 0o755

/**
 * Listens at a path in the file system. What a dead process has left there is removed, what a live one
 * answers on is not. Throws `CS_SOCKET_PATH_INVALID`, `CS_SOCKET_FOLDER_UNSAFE`, `CS_SOCKET_TAKEN`,
 * `CS_FOLDER_UNUSABLE` and `CS_LISTEN_FAILED`.
 */
export async function listenAt(server: Server, place: SocketPlace): Promise<void> {
  assertPath(place.path)
  await prepareFolder(place)
  if (!(await bind(server, place.path))) {
    await removeLeftover(place.path)
    if (!(await bind(server, place.path))) throw taken(place.path)
  }
  await chmod(place.path, place.mode)
}

function assertPath(path: string): void {
  if (!isAbsolute(path) || path.includes('\0')) {
    throw new AgentError('CS_SOCKET_PATH_INVALID', `socket path ${path} is not absolute`)
  }
  const bytes = Buffer.byteLength(path)
  if (bytes > MAX_PATH_BYTES) {
    const message = `socket path has ${bytes} bytes, more than ${MAX_PATH_BYTES}: ${path}`
    throw new AgentError('CS_SOCKET_PATH_INVALID', message)
  }
}

/** Whoever may write to the folder could put a socket of its own in place of ours. */
async function prepareFolder({ path, folderMode }: SocketPlace): Promise<void> {
  const folder = dirname(path)
  const found = await folderStat(folder, folderMode)
  if (!found.isDirectory()) throw new PlatformError('CS_FOLDER_UNUSABLE', `${folder} is no folder`)
  const { mode } = found
  if ((mode & WRITABLE_BY_ALL) !== 0 && (mode & STICKY) === 0) {
    throw new AgentError('CS_SOCKET_FOLDER_UNSAFE', `everyone may write to folder ${folder}`)
  }
}

async function folderStat(folder: string, mode: number) {
  try {
    await makeFolder(folder, mode)
    return await stat(folder)
  } catch (error) {
    const message = `folder ${folder} cannot be used: ${systemCode(error)}`
    throw new PlatformError('CS_FOLDER_UNUSABLE', message, { cause: error })
  }
}

/** Not by mkdir's own `recursive`, which never ends below /proc and leaves the folders between to the umask. */
async function makeFolder(folder: string, mode: number): Promise<void> {
  try {
    await mkdir(folder, mode)
  } catch (error) {
    const code = systemCode(error)
    if (code === 'EEXIST') return
    if (code !== 'ENOENT' || dirname(folder) === folder) throw error
    await makeFolder(dirname(folder), ENTERED_BY_ALL)
    await mkdir(folder, mode)
  }
  // The process's umask may have taken bits away that callers need to reach the socket.
  await chmod(folder, mode)
}

/** False when something is at the path already. */
function bind(server: Server, path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const onError = (error: Error) => {
      server.removeListener('listening', onListening)
      if (systemCode(error) === 'EADDRINUSE') resolve(false)
      else reject(listenFailed(path, error))
    }
    const onListening = () => {
      server.removeListener('error', onError)
      resolve(true)
    }
    server.once('error', onError)
    server.once('listening', onListening)
    // Until its mode is set the socket is for its owner alone. The path is bound before this returns.
    const umask = process.umask(0o177)
    try {
      server.listen({ path, backlog: BACKLOG })
    } finally {
      process.umask(umask)
    }
  })
}

/**
 * Takes away the socket of a process that is gone. It is moved aside first and looked at there: if
 * another agent has just put its own in place, that one is put back.
 */
async function removeLeftover(path: string): Promise<void> {
  const before = await lstatIfPresent(path)
  if (!before) return
  if (!before.isSocket()) {
    throw new AgentError('CS_SOCKET_PATH_INVALID', `something that is no socket is at ${path}`)
  }
  if (await answers(path)) throw taken(path)

  const aside = `${path}.${randomBytes(4).toString('hex')}`
  await rename(path, aside).catch(() => undefined)
  const moved = await lstatIfPresent(aside)
  const ours = moved?.ino === before.ino && moved.dev === before.dev
  if (moved && !ours) await link(aside, path).catch(() => undefined)
  if (moved) await unlink(aside)
  if (!ours) throw taken(path)
}

async function lstatIfPresent(path: string) {
  try {
    return await lstat(path)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw listenFailed(path, error)
  }
}

/** Only a refused connection proves that nobody listens; a socket that may not be tried is somebody's. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', (error) => resolve(systemCode(error) !== 'ECONNREFUSED'))
  })
}

function listenFailed(path: string, error: unknown): PlatformError {
  const message = `cannot listen at ${path}: ${systemCode(error) ?? 'unknown error'}`
  return new PlatformError('CS_LISTEN_FAILED', message, { cause: error })
}

const taken = (path: string) =>
  new AgentError('CS_SOCKET_TAKEN', `another process answers at ${path}`)

import { once } from 'node:events'
import { readlink, stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { systemCode } from '../../platform/errors.js'

/** The process that listens on a Unix socket, as far as this user may know. */
export interface Listener {
  readonly pid: number
  readonly uid: number
  readonly gid: number
  /** Path of its program; undefined without the right to see it. */
  readonly program: string | undefined
}

/** Who may open the socket, by its file. */
export interface SocketFile {
  readonly uid: number
  readonly gid: number
  readonly mode: string
}

/** Asks the kernel who listens. Undefined where it does not tell or nobody does. */
export async function listenerOf(path: string): Promise<Listener | undefined> {
  const socket = connect({ path })
  try {
    await once(socket, 'connect')
    const { descriptorOf, linuxKernel } = await import('../../agent/attestation/peer.js')
    const { pid, uid, gid } = linuxKernel().credentialsOf(descriptorOf(socket))
    return { pid, uid, gid, program: await programOf(pid) }
  } catch {
    return undefined
  } finally {
    socket.on('error', () => undefined).destroy()
  }
}

/** Undefined if there is no such file. */
export async function socketFile(path: string): Promise<SocketFile | undefined> {
  try {
    const { uid, gid, mode } = await stat(path)
    return { uid, gid, mode: (mode & 0o7777).toString(8).padStart(4, '0') }
  } catch (error) {
    if (systemCode(error) !== undefined) return undefined
    throw error
  }
}

async function programOf(pid: number): Promise<string | undefined> {
  try {
    return await readlink(`/proc/${pid}/exe`)
  } catch {
    return undefined
  }
}

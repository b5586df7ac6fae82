import { randomBytes } from 'node:crypto'
import { constants, createReadStream } from 'node:fs'
import { access, mkdir, open, rename, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { PlatformError, systemCode } from './errors.js'

/** Creates the folder if needed, for its owner alone, and proves that it can be written. Throws `CS_FOLDER_UNUSABLE`. */
export async function ensurePrivateFolder(path: string, mode = 0o700): Promise<void> {
  try {
    await makeFolders(path, mode)
    await access(path, constants.W_OK | constants.X_OK)
  } catch (error) {
    const why = systemCode(error) ?? 'unknown error'
    throw new PlatformError('CS_FOLDER_UNUSABLE', `folder ${path} cannot be used: ${why}`, {
      cause: error,
    })
  }
}

/** Not by mkdir's own `recursive`, which never ends below a folder that denies that it lacks something (/proc). */
async function makeFolders(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, mode)
  } catch (error) {
    const code = systemCode(error)
    if (code === 'EEXIST') return
    if (code !== 'ENOENT' || dirname(path) === path) throw error
    await makeFolders(dirname(path), mode)
    await mkdir(path, mode)
  }
}

/** The whole file, or undefined when there is none. Throws `CS_FILE_UNREADABLE`, `CS_FILE_TOO_LARGE`. */
export async function readIfPresent(path: string, maxBytes: number): Promise<Buffer | undefined> {
  const bytes = await readUpTo(path, maxBytes + 1).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return undefined
    throw new PlatformError('CS_FILE_UNREADABLE', `${path} cannot be read: ${systemCode(error)}`, {
      cause: error,
    })
  })
  if (bytes === undefined || bytes.length <= maxBytes) return bytes
  throw new PlatformError('CS_FILE_TOO_LARGE', `${path} is longer than ${maxBytes} bytes`)
}

/** Believes no size: a device, a pipe or a file that grows has another one than it says. */
async function readUpTo(path: string, length: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of createReadStream(path, { end: length - 1 }))
    chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

/** Like {@link readIfPresent}, for a file that must be there. */
export async function readRequired(path: string, maxBytes: number): Promise<Buffer> {
  const bytes = await readIfPresent(path, maxBytes)
  if (!bytes) throw new PlatformError('CS_FILE_UNREADABLE', `${path} does not exist`)
  return bytes
}

/**
 * Replaces the file in one step that survives a crash: a reader sees the old bytes or the new ones,
 * also after power was lost. Throws `CS_FILE_UNWRITABLE` and leaves the old file as it was.
 */
export async function atomicWrite(
  path: string,
  bytes: Uint8Array | string,
  mode = 0o600,
): Promise<void> {
  const draft = `${path}.${randomBytes(6).toString('hex')}.tmp`
  try {
    await writeDurably(draft, bytes, mode)
    await rename(draft, path)
    await syncFolder(dirname(path))
  } catch (error) {
    await unlink(draft).catch(() => undefined)
    throw new PlatformError(
      'CS_FILE_UNWRITABLE',
      `${path} cannot be written: ${systemCode(error)}`,
      { cause: error },
    )
  }
}

async function writeDurably(path: string, bytes: Uint8Array | string, mode: number): Promise<void> {
  const file = await open(path, 'wx', mode)
  try {
    // The process's umask may have taken bits away; the mode asked for is the one that counts.
    await file.chmod(mode)
    await file.writeFile(bytes)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Without it a rename may be undone by a power failure. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

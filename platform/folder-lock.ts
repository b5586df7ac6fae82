import { randomBytes } from 'node:crypto'
import { link, readdir, readFile, rename, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PlatformError, systemCode } from './errors.js'

/** Held while one process works in a data folder. */
export interface FolderLock extends AsyncDisposable {
  readonly path: string
}

const NAME = 'process.lock'

/**
 * Lets one process at a time work in a data folder. The lock names a process and when it started, so
 * that one left behind by a crash, or by a machine that lost power, is seen through. Throws `CS_FOLDER_IN_USE`.
 */
export async function lockFolder(folder: string): Promise<FolderLock> {
  const path = join(folder, NAME)
  const own = `${process.pid} ${(await startOf(process.pid)) ?? ''}\n`
  for (let attempt = 0; attempt < 5; attempt += 1) {
    if (await create(path, own)) {
      await removeDrafts(folder)
      return { path, [Symbol.asyncDispose]: () => unlink(path).catch(() => undefined) }
    }
    const found = await readLock(path)
    const holder = await livingHolder(found)
    if (holder !== undefined) {
      throw new PlatformError('CS_FOLDER_IN_USE', `process ${holder} works in ${folder}`)
    }
    await takeAway(path, found)
  }
  throw new PlatformError('CS_FOLDER_IN_USE', `another process is taking ${folder} over`)
}

/** What a process that was killed while it wrote has left; nobody else writes here now. */
async function removeDrafts(folder: string): Promise<void> {
  const names = await readdir(folder)
  const drafts = names.filter((name) => /\.[0-9a-f]{12}\.tmp$/.test(name))
  await Promise.all(drafts.map((name) => unlink(join(folder, name)).catch(() => undefined)))
}

/** Linked into place with its text, so that nobody ever reads a lock that names nobody yet. */
async function create(path: string, text: string): Promise<boolean> {
  const draft = `${path}.${randomBytes(6).toString('hex')}`
  try {
    await writeFile(draft, text, { mode: 0o600 })
    await link(draft, path)
    return true
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false
    throw new PlatformError(
      'CS_FOLDER_UNUSABLE',
      `${path} cannot be written: ${systemCode(error)}`,
      { cause: error },
    )
  } finally {
    await unlink(draft).catch(() => undefined)
  }
}

/** What the lock says, or nothing if it went away meanwhile. */
async function readLock(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return ''
    throw new PlatformError('CS_FOLDER_UNUSABLE', `${path} cannot be read: ${systemCode(error)}`, {
      cause: error,
    })
  }
}

/** Removes the dead lock that was read, and puts it back if meanwhile a live one had taken its place. */
async function takeAway(path: string, expected: string): Promise<void> {
  const aside = `${path}.${randomBytes(6).toString('hex')}`
  try {
    await rename(path, aside)
    if ((await readFile(aside, 'utf8')) !== expected) await link(aside, path)
    await unlink(aside)
  } catch (error) {
    // Another process was faster with the same; the next attempt sees what it left.
    if (!['ENOENT', 'EEXIST'].includes(systemCode(error) ?? '')) throw error
    await unlink(aside).catch(() => undefined)
  }
}

/** The process that a lock names, unless it has ended or its number went to another process since. */
async function livingHolder(text: string): Promise<number | undefined> {
  const [pid, start] = text.trim().split(' ')
  if (pid === undefined || !/^\d+$/.test(pid)) return undefined
  const living = await startOf(Number(pid))
  return living !== undefined && living === start ? Number(pid) : undefined
}

/** Start time of a process in clock ticks since boot (proc(5), field 22), with the boot it belongs to. */
async function startOf(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    if (fields[0] === 'Z') return undefined
    const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'latin1')).trim()
    return `${fields[19]}@${boot}`
  } catch {
    return undefined
  }
}

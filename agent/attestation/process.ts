import {
  type BigIntStats,
  closeSync,
  constants,
  openSync,
  readlinkSync,
  readSync,
  statSync,
} from 'node:fs'
import { systemCode } from '../../platform/errors.js'
import { AgentError } from '../errors.js'
import { type ProcStat, type ProcStatus, parseStat, parseStatus } from './proc-format.js'

/**
 * One process, held by its open folder under `/proc`: what is read through it is about that process or
 * fails, also when the pid has gone to another one. Everything throws `CS_CALLER_NOT_ATTESTED` when
 * the process is gone or {@link PinnedProcess.close} was called.
 */
export interface PinnedProcess {
  readonly pid: number
  stat(): ProcStat
  status(): ProcStatus
  /** The text of a file in the folder, for attestors that need more. */
  read(file: string): string
  /** Undefined where the agent may not look. */
  binary(): RunningBinary | undefined
  /** Descriptor of the running binary, to be closed by the caller; undefined where the agent may not look. */
  openBinary(): number | undefined
  close(): void
}

/** The file that a process runs. */
export interface RunningBinary {
  /** Where the kernel says it is; with `(deleted)` behind it when it is no longer there. */
  readonly link: string
  /** Device and inode. No other file gets the same while the process runs. */
  readonly file: string
  /** Differs whenever the content may. */
  readonly version: string
}

/** A list of 65,536 groups fits. */
const MAX_PROC_BYTES = 1024 * 1024
const CHUNK_BYTES = 16 * 1024

/** Nothing is read to the end in another turn of the event loop, so one buffer serves all. */
const chunk = Buffer.alloc(CHUNK_BYTES)

/** Throws `CS_CALLER_NOT_ATTESTED`. */
export function pinProcess(pid: number, procRoot = '/proc'): PinnedProcess {
  const descriptors: number[] = []
  const keep = (path: string, flags = constants.O_RDONLY) => {
    const descriptor = openSync(path, flags)
    descriptors.push(descriptor)
    return descriptor
  }
  let open = true
  const close = () => {
    open = false
    for (const descriptor of descriptors.splice(0)) closeSync(descriptor)
  }
  const held = (descriptor: number) => {
    // A closed descriptor may be of something else by now.
    if (!open) throw gone('process is no longer held')
    return descriptor
  }
  try {
    const folder = orGone('', () =>
      keep(`${procRoot}/${pid}`, constants.O_RDONLY | constants.O_DIRECTORY),
    )
    const path = (file: string) => `/proc/self/fd/${held(folder)}/${file}`
    // These two are read for every call, so they are opened once. They stay those of the process.
    const stat = orGone('stat', () => keep(path('stat')))
    const status = orGone('status', () => keep(path('status')))
    return {
      pid,
      close,
      stat: () => parseStat(orGone('stat', () => readAgain(held(stat)))),
      status: () => parseStatus(orGone('status', () => readAgain(held(status)))),
      read: (file) => orGone(file, () => readOnce(path(file))),
      binary: () => whereAllowed(() => binaryAt(path('exe'))),
      openBinary: () =>
        whereAllowed(() => openSync(path('exe'), constants.O_RDONLY | constants.O_NONBLOCK)),
    }
  } catch (error) {
    close()
    throw error
  }
}

/** Tells files apart, as long as both exist. */
export function fileKey({ dev, ino }: Pick<BigIntStats, 'dev' | 'ino'>): string {
  return `${dev}:${ino}`
}

/** Differs whenever the content of a file may. */
export function versionKey({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`
}

function binaryAt(path: string): RunningBinary {
  const stat = statSync(path, { bigint: true })
  return { link: readlinkSync(path), file: fileKey(stat), version: versionKey(stat) }
}

function readOnce(path: string): string {
  const descriptor = openSync(path, constants.O_RDONLY)
  try {
    return readLong(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

/** The whole file as it is now: from its start the kernel writes it anew. */
function readAgain(descriptor: number): string {
  const length = readSync(descriptor, chunk, 0, CHUNK_BYTES, 0)
  if (length < CHUNK_BYTES) {
    const text = chunk.toString('latin1', 0, length)
    // Files of one record come in one piece, and these end in a line end.
    if (text.endsWith('\n')) return text
  }
  return readLong(descriptor)
}

function readLong(descriptor: number): string {
  const parts: Buffer[] = []
  for (let total = 0; total <= MAX_PROC_BYTES; ) {
    const length = readSync(descriptor, chunk, 0, CHUNK_BYTES, total)
    if (length === 0) return Buffer.concat(parts, total).toString('utf8')
    total += length
    parts.push(Buffer.from(chunk.subarray(0, length)))
  }
  throw gone('a file under /proc is longer than any should be')
}

function orGone<Value>(file: string, act: () => Value): Value {
  try {
    return act()
  } catch (error) {
    if (error instanceof AgentError) throw error
    const why = systemCode(error) ?? 'unknown error'
    throw new AgentError('CS_CALLER_NOT_ATTESTED', `/proc/<pid>/${file} cannot be read: ${why}`, {
      cause: error,
    })
  }
}

/** The binary may be looked at only by who could trace the process. Less is known then, never more. */
function whereAllowed<Value>(act: () => Value): Value | undefined {
  try {
    return act()
  } catch (error) {
    if (error instanceof AgentError) throw error
    return undefined
  }
}

const gone = (message: string) => new AgentError('CS_CALLER_NOT_ATTESTED', message)

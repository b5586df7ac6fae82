import { createHash } from 'node:crypto'
import { type BigIntStats, close, fstat, read, statSync } from 'node:fs'
import { promisify } from 'node:util'
import type { Clock } from '../../platform/clock.js'
import type { ProcessFacts } from './attestor.js'
import { fileKey, type PinnedProcess, versionKey } from './process.js'

const closeAsync = promisify(close)
const fstatAsync = promisify(fstat) as (
  descriptor: number,
  options: { readonly bigint: true },
) => Promise<BigIntStats>
const readAsync = promisify(read)

export interface BinaryReader {
  /** The path of the running binary, if the agent finds that very file there. */
  pathOf(facts: ProcessFacts): string | undefined
  /** SHA-256 of the running binary, lower-case hex; undefined if it cannot be read or is too large. */
  sha256Of(request: HashRequest): Promise<string | undefined>
}

export interface HashRequest {
  readonly facts: ProcessFacts
  readonly process: PinnedProcess
  readonly signal: AbortSignal
}

export interface BinaryReaderOptions {
  readonly clock: Clock
  /** Larger binaries have no hash. */
  readonly maxHashedBytes?: number
}

const DEFAULT_MAX_HASHED_BYTES = 512 * 1024 * 1024
/** Hashing one takes well under a millisecond, and the event loop turns after each. */
const CHUNK_BYTES = 256 * 1024
const MAX_HASHES = 4096
const MAX_PATHS = 16_384
/** A file that was written this recently may be written again without its times showing it. */
const SETTLED_MS = 2000

export function binaryReader(options: BinaryReaderOptions): BinaryReader {
  const verified = boundedMap<string, string>(MAX_PATHS)
  const hashes = boundedMap<string, string>(MAX_HASHES)
  const inTurn = oneAtATime()
  return {
    pathOf: (facts) => pathOf(facts, verified),
    async sha256Of({ facts, process, signal }) {
      const { uid, binary } = facts
      if (!binary) return undefined
      const known = hashes.get(binary.version)
      if (known !== undefined) return known
      // A user who runs ever new binaries waits for its own hashes and not for those of others.
      return inTurn(uid, () =>
        hashOf(process, { ...options, version: binary.version, hashes, signal }),
      )
    },
  }
}

/**
 * What the kernel calls the path is a name in the view of whoever mounted the file: a user can mount a
 * file of its own over any path, in a namespace of its own. So the path counts only when the file that
 * the agent finds there is the one that runs. Once seen it is remembered for the life of the process,
 * which goes on running the old file when a new one is installed over it.
 */
function pathOf(
  { binary, pid, startTime }: ProcessFacts,
  verified: BoundedMap<string, string>,
): string | undefined {
  if (!binary) return undefined
  const process = `${pid}:${startTime}:${binary.file}`
  const found = statSync(binary.link, { bigint: true, throwIfNoEntry: false })
  if (found && fileKey(found) === binary.file) {
    verified.set(process, binary.link)
    return binary.link
  }
  return verified.get(process)
}

interface HashJob extends BinaryReaderOptions {
  /** The file is to be this one, before and after. */
  readonly version: string
  readonly hashes: BoundedMap<string, string>
  readonly signal: AbortSignal
}

async function hashOf(process: PinnedProcess, job: HashJob): Promise<string | undefined> {
  const { version, hashes, clock, maxHashedBytes = DEFAULT_MAX_HASHED_BYTES, signal } = job
  const descriptor = process.openBinary()
  if (descriptor === undefined) return undefined
  try {
    const stat = await fstatAsync(descriptor, { bigint: true })
    if (!stat.isFile() || stat.size > maxHashedBytes || versionKey(stat) !== version)
      return undefined

    const known = hashes.get(version)
    if (known !== undefined) return known
    const digest = await hashAll({ descriptor, bytes: Number(stat.size), signal })
    if (versionKey(await fstatAsync(descriptor, { bigint: true })) !== version) return undefined
    if (Number(stat.ctimeMs) + SETTLED_MS < clock.now().getTime()) hashes.set(version, digest)
    return digest
  } finally {
    await closeAsync(descriptor)
  }
}

async function hashAll(file: {
  readonly descriptor: number
  readonly bytes: number
  readonly signal: AbortSignal
}): Promise<string> {
  const hash = createHash('sha256')
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES)
  for (let position = 0; position < file.bytes; ) {
    file.signal.throwIfAborted()
    const { bytesRead } = await readAsync(file.descriptor, chunk, 0, CHUNK_BYTES, position)
    if (bytesRead === 0) break
    hash.update(chunk.subarray(0, bytesRead))
    position += bytesRead
  }
  return hash.digest('hex')
}

interface BoundedMap<Key, Value> {
  get(key: Key): Value | undefined
  set(key: Key, value: Value): void
}

/** Forgets what was used longest ago. */
function boundedMap<Key, Value>(limit: number): BoundedMap<Key, Value> {
  const held = new Map<Key, Value>()
  const set = (key: Key, value: Value) => {
    held.delete(key)
    held.set(key, value)
    const [oldest] = held.keys()
    if (held.size > limit && oldest !== undefined) held.delete(oldest)
  }
  return {
    set,
    get(key) {
      const value = held.get(key)
      if (value !== undefined) set(key, value)
      return value
    },
  }
}

/** Runs jobs with the same key one after the other. */
function oneAtATime(): <Value>(key: number, job: () => Promise<Value>) => Promise<Value> {
  const last = new Map<number, Promise<unknown>>()
  return async (key, job) => {
    const before = last.get(key)
    const turn = (before ?? Promise.resolve()).then(job, job)
    last.set(key, turn)
    try {
      return await turn
    } finally {
      if (last.get(key) === turn) last.delete(key)
    }
  }
}

import { hash as digest } from 'node:crypto'
import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs'
import type { Clock } from '../../platform/clock.js'
import { PlatformError, systemCode } from '../../platform/errors.js'
import type { Log } from '../../platform/log.js'
import type { Random } from '../../platform/random.js'
import { SentryError } from '../errors.js'
import type { AuditEvent, AuditSink } from './event.js'

/** One line of the audit log. `hash` is over the line without it, so `prev` makes the lines a chain. */
export interface AuditRecord extends AuditEvent {
  /** Unique over all runs of all sentries. */
  readonly id: string
  /** RFC 3339, UTC. */
  readonly time: string
  /** Hash of the record before; zeros in the first. */
  readonly prev: string
  /** SHA-256, lower-case hex. */
  readonly hash: string
}

export interface AuditLogOptions {
  readonly path: string
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** The append-only file of what the sentry did and refused. */
export interface AuditLog extends AuditSink, Disposable {
  /** Writes what is recorded so far. */
  flush(): void
  /**
   * Resolves when what is recorded so far is on file, or cannot be written. An answer leaves only after
   * its record; those of one turn of the event loop are written together.
   */
  settled(): Promise<void>
  /** Time of the last record found at the start, in milliseconds since 1970; 0 for none. */
  readonly lastRecordAt: number
  /** Undefined while records can be written. */
  failure(): SentryError | undefined
}

export const FIRST_PREV = '0'.repeat(64)

/** Records kept in memory while the file cannot be written. More are counted and said to be missing. */
const MAX_WAITING = 10_000
/** How long a file that could not be written is left alone: the records in hand are many by then. */
const RETRY_NS = 1_000_000_000n
/** Longer than any line; the last one is looked for in this much. */
const TAIL_BYTES = 1024 * 1024
const LINE_END = 0x0a

interface Stamped {
  readonly id: string
  readonly time: string
  readonly event: AuditEvent
}

/**
 * Opens the log, or begins one. A last line that was cut short by a crash is taken off with a warning.
 * Throws `CS_AUDIT_BROKEN` when the last whole line is no record of the chain, `CS_FILE_UNREADABLE`.
 */
export function openAuditLog(options: AuditLogOptions): AuditLog {
  const { path, clock, random, log } = options
  const file = openFile(path)
  let { end, prev, lastRecordAt } = continueFrom(file, options)
  let waiting: Stamped[] = []
  let lost = 0
  let failure: SentryError | undefined
  let retryAt = clock.hrtime()
  let turn: Promise<void> | undefined
  let closed = false

  const flush = () => {
    if (waiting.length === 0 || closed || clock.hrtime() < retryAt) return
    const gap = lost > 0 ? [stamp({ type: 'audit.gap.v1', details: { lost } })] : []
    const chained = chain([...waiting, ...gap], prev)
    try {
      end += writeWhole(file, chained.text, end)
    } catch (error) {
      if (!failure) log.error({ code: 'CS_AUDIT_UNWRITABLE', error }, 'audit log is not writable')
      failure = new SentryError('CS_AUDIT_UNWRITABLE', `${path} cannot be written`, {
        cause: error,
      })
      retryAt = clock.hrtime() + RETRY_NS
      return
    }
    prev = chained.last
    waiting = []
    lost = 0
    failure = undefined
  }

  const endOfTurn = () => {
    turn ??= new Promise((resolve) => {
      setImmediate(() => {
        turn = undefined
        flush()
        resolve()
      })
    })
    return turn
  }

  const stamp = stamper({ clock, random })

  return {
    lastRecordAt,
    record(event) {
      if (waiting.length >= MAX_WAITING) flush()
      if (waiting.length >= MAX_WAITING) {
        lost += 1
        return
      }
      waiting.push(stamp(event))
      void endOfTurn()
    },
    flush,
    settled: () => (waiting.length === 0 ? Promise.resolve() : endOfTurn()),
    failure: () => failure,
    [Symbol.dispose]() {
      if (closed) return
      flush()
      closed = true
      closeSync(file)
    },
  }
}

/** An id of its own for each record, and the time; a batch of five hundred SVIDs needs as many. */
function stamper({ clock, random }: Pick<AuditLogOptions, 'clock' | 'random'>) {
  const run = random.uuid()
  let records = 0
  let at = Number.NaN
  let time = ''
  return (event: AuditEvent): Stamped => {
    const now = clock.now()
    if (now.getTime() !== at) {
      at = now.getTime()
      time = now.toISOString()
    }
    records += 1
    return { id: `${run}-${records}`, time, event }
  }
}

/** The line of a record, and its hash. */
function lineOf({ id, time, event }: Stamped, prev: string): { line: string; hash: string } {
  const { type, subject, requester, code, details } = event
  const content = JSON.stringify({ id, time, type, subject, requester, code, details, prev })
  const hash = hashOf(content)
  return { line: `${content.slice(0, -1)},"hash":"${hash}"}\n`, hash }
}

/** Reads one line. Throws `CS_AUDIT_BROKEN` when its hash is not its own. */
export function readAuditLine(line: string): AuditRecord {
  const match = /^(\{.*),"hash":"([0-9a-f]{64})"\}$/.exec(line)
  const [, content, hash] = match ?? []
  if (content === undefined || hash !== hashOf(`${content}}`)) {
    throw new SentryError('CS_AUDIT_BROKEN', 'record of the audit log was changed')
  }
  return JSON.parse(line) as AuditRecord
}

function hashOf(content: string): string {
  return digest('sha256', content, 'hex')
}

function chain(stamped: readonly Stamped[], prev: string): { text: Buffer; last: string } {
  let last = prev
  const lines = stamped.map((one) => {
    const { line, hash } = lineOf(one, last)
    last = hash
    return line
  })
  return { text: Buffer.from(lines.join('')), last }
}

/** All of it or nothing: half a line would break the chain for whoever reads it next. */
function writeWhole(file: number, bytes: Buffer, end: number): number {
  try {
    for (let written = 0; written < bytes.length; ) {
      written += writeSync(file, bytes, written, bytes.length - written, end + written)
    }
    return bytes.length
  } catch (error) {
    ftruncateSync(file, end)
    throw error
  }
}

interface Continuation {
  readonly end: number
  readonly prev: string
  readonly lastRecordAt: number
}

function continueFrom(file: number, { path, log }: AuditLogOptions): Continuation {
  try {
    const { size } = fstatSync(file)
    const start = Math.max(0, size - TAIL_BYTES)
    const tail = Buffer.alloc(size - start)
    readSync(file, tail, 0, tail.length, start)
    const end = start + tail.lastIndexOf(LINE_END) + 1
    if (end < size) {
      log.warn({ path, bytes: size - end }, 'audit log ended in the middle of a record')
      ftruncateSync(file, end)
    }
    return { end, ...lastRecordIn(tail.subarray(0, end - start)) }
  } catch (error) {
    closeSync(file)
    throw error instanceof SentryError
      ? new SentryError('CS_AUDIT_BROKEN', `${path}: ${error.message}`, { cause: error })
      : error
  }
}

function lastRecordIn(lines: Buffer): Omit<Continuation, 'end'> {
  if (lines.length === 0) return { prev: FIRST_PREV, lastRecordAt: 0 }
  const before = lines.lastIndexOf(LINE_END, lines.length - 2)
  const { hash, time } = readAuditLine(lines.toString('utf8', before + 1, lines.length - 1))
  return { prev: hash, lastRecordAt: Date.parse(time) }
}

function openFile(path: string): number {
  try {
    return openSync(path, 'a+', 0o600)
  } catch (error) {
    throw new PlatformError('CS_FILE_UNREADABLE', `${path}: ${systemCode(error)}`, {
      cause: error,
    })
  }
}

import { type Dialect, Kysely } from 'kysely'
import type { Clock } from '../../platform/clock.js'
import type { Log } from '../../platform/log.js'
import { SentryError } from '../errors.js'
import { type Draft, draftOver, type PlannedChange, replay } from './draft.js'
import {
  type HeldTable,
  type LoggedChange,
  loadState,
  type Position,
  persist,
  readLog,
  trimLog,
} from './log.js'
import { migrate, type Schema } from './schema.js'
import {
  type AnySpec,
  type MemoryTable,
  memoryTable,
  type OrderedView,
  type TableSpec,
} from './table.js'

/** A change that is on disk and in memory. `before` and `after` are undefined where there is nothing. */
export interface Change<T = unknown> {
  readonly sequence: number
  readonly at: number
  readonly table: AnySpec
  readonly key: string
  readonly before: T | undefined
  readonly after: T | undefined
}

export interface Written<R> {
  readonly value: R
  /** Position of the log that holds the whole write. */
  readonly sequence: number
}

export interface DatastoreOptions {
  readonly dialect: Dialect
  /** Every kind of object that may be in the datastore. */
  readonly tables: readonly AnySpec[]
  /** Whose datastore it is; checked against what the datastore says. */
  readonly trustDomain: string
  readonly clock: Clock
  readonly log: Log
}

/**
 * The sentry's state: served from memory, changed only by appending to one ordered log. A write is
 * on disk before it can be read and before anybody is told of it.
 */
export interface Datastore extends AsyncDisposable {
  /** Position of the log that the memory stands at. */
  readonly sequence: number
  /** Time of the last change, in milliseconds since 1970; 0 for none. */
  readonly changedAt: number
  view<T, Index extends string>(table: TableSpec<T, Index>): OrderedView<T, Index>
  /**
   * Runs `decide` on the state as it will be when its turn comes and stores what it changed. What
   * `decide` throws is thrown to the caller, with nothing stored; it may run again and must not wait.
   * Throws `CS_DATASTORE_UNAVAILABLE`.
   */
  write<R>(decide: (draft: Draft) => R): Promise<Written<R>>
  /** Runs `decide` as a write would and stores nothing. */
  preview<R>(decide: (draft: Draft) => R): R
  /** Called after each commit with all of its changes, in order. Returns the way to stop. */
  onChange(listener: (changes: readonly Change[]) => void): () => void
  /** The log after a position, oldest first. */
  logAfter(sequence: number, limit: number): Promise<readonly LoggedChange[]>
  /** Forgets changes older than the newest `keep`; objects stay. */
  trimLog(keep: number): Promise<void>
  /** Undefined while writes succeed. */
  failure(): SentryError | undefined
}

interface Waiting {
  readonly decide: (draft: Draft) => unknown
  readonly resolve: (written: Written<never>) => void
  readonly reject: (error: unknown) => void
}

/** Writes that arrive while one is on its way to the disk share the next transaction, up to this many. */
const MAX_GROUP = 256
const MAX_WAITING = 10_000

/** Throws `CS_DATASTORE_TOO_NEW`, `CS_DATASTORE_CORRUPT`, `CS_DATASTORE_FOREIGN`. */
export async function openDatastore(options: DatastoreOptions): Promise<Datastore> {
  const database = new Kysely<Schema>({ dialect: options.dialect })
  try {
    await migrate(database, options.clock.now())
    const held = new Map(
      options.tables.map((spec) => [spec.kind, { spec, rows: memoryTable(spec) }]),
    )
    const position = await loadState({ database, trustDomain: options.trustDomain, tables: held })
    return running({ ...options, database, held, position })
  } catch (error) {
    await database.destroy()
    throw error
  }
}

/** The changes of one table, typed as it is. */
export function changesOf<T, Index extends string>(
  table: TableSpec<T, Index>,
  changes: readonly Change[],
): readonly Change<T>[] {
  return changes.filter((change) => change.table.kind === table.kind) as Change<T>[]
}

interface RunningOptions extends DatastoreOptions {
  readonly database: Kysely<Schema>
  readonly held: ReadonlyMap<string, HeldTable>
  readonly position: Position
}

function running(options: RunningOptions): Datastore {
  const { database, held, clock, log } = options
  const listeners = new Set<(changes: readonly Change[]) => void>()
  let { sequence, at } = options.position
  let waiting: Waiting[] = []
  let writer: Promise<void> | undefined
  let failure: SentryError | undefined
  let closed = false

  const tableOf = <T, Index extends string>({ kind }: TableSpec<T, Index>) => {
    const table = held.get(kind)
    if (!table) throw new SentryError('CS_INTERNAL', `the datastore has no table for ${kind}`)
    return table.rows as MemoryTable<T, Index>
  }

  const publish = (planned: readonly PlannedChange[], committedAt: number) => {
    const changes = planned.map(({ table, key, value }): Change => {
      sequence += 1
      const rows = tableOf(table)
      const before = rows.get(key)
      if (value === undefined) rows.remove(key)
      else rows.put(value, sequence)
      return { sequence, at: committedAt, table, key, before, after: value }
    })
    at = committedAt
    for (const listener of listeners) {
      try {
        listener(changes)
      } catch (error) {
        // What is written stays written, and the other listeners must hear of it too.
        log.error({ code: 'CS_INTERNAL', error }, 'listener of the change log failed')
      }
    }
  }

  const store = async (planned: readonly PlannedChange[]) => {
    if (planned.length === 0) return
    const now = clock.now().getTime()
    try {
      await persist({ database, planned, after: sequence, at: now })
      failure = undefined
    } catch (error) {
      log.error({ code: 'CS_DATASTORE_UNAVAILABLE', error }, 'change could not be stored')
      failure = new SentryError('CS_DATASTORE_UNAVAILABLE', 'change could not be stored', {
        cause: error,
      })
      throw failure
    }
    publish(planned, now)
  }

  const commit = async (group: readonly Waiting[]) => {
    const start = sequence
    const { draft, planned } = draftOver(tableOf)
    const answers = group.map((write) => decideIn(draft, write, () => start + planned.length))
    try {
      await store(planned)
      for (const answer of answers) answer()
    } catch (error) {
      for (const { reject } of group) reject(error)
    }
  }

  const drain = async () => {
    while (waiting.length > 0) {
      const group = waiting.slice(0, MAX_GROUP)
      waiting = waiting.slice(MAX_GROUP)
      await commit(group)
    }
    writer = undefined
  }

  return {
    get sequence() {
      return sequence
    },
    get changedAt() {
      return at
    },
    view: (table) => tableOf(table),
    write: (decide) =>
      new Promise((resolve, reject) => {
        if (closed || waiting.length >= MAX_WAITING) {
          const why = closed ? 'the datastore is closed' : 'too many writes wait for the datastore'
          reject(new SentryError('CS_DATASTORE_UNAVAILABLE', why))
          return
        }
        waiting.push({ decide, resolve, reject })
        writer ??= Promise.resolve().then(drain)
      }),
    preview: (decide) => decide(draftOver(tableOf).draft),
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    logAfter: (after, limit) => readLog(database, after, limit),
    trimLog: (keep) => trimLog(database, sequence - keep),
    failure: () => failure,
    async [Symbol.asyncDispose]() {
      if (closed) return
      closed = true
      await writer
      await database.destroy()
    },
  }
}

/** Decides in a draft of its own, so that a refused write leaves nothing behind. Returns how to answer. */
function decideIn(group: Draft, write: Waiting, position: () => number): () => void {
  const own = draftOver((table) => group.table(table))
  try {
    const value = write.decide(own.draft) as never
    replay(own.planned, group)
    const sequence = position()
    return () => write.resolve({ value, sequence })
  } catch (error) {
    return () => write.reject(error)
  }
}

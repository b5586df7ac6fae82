import type { Kysely, Transaction } from 'kysely'
import { sql } from 'kysely'
import { SentryError } from '../errors.js'
import type { PlannedChange } from './draft.js'
import type { Schema } from './schema.js'
import type { AnySpec, MemoryTable } from './table.js'

/** A row of the change log as it is stored. */
export interface LoggedChange {
  readonly sequence: number
  /** Milliseconds since 1970. */
  readonly at: number
  readonly kind: string
  readonly key: string
  /** Null when the object is gone. */
  readonly payload: string | null
}

export interface Position {
  readonly sequence: number
  /** Time of the change there, in milliseconds since 1970; 0 for none. */
  readonly at: number
}

/** Rows per statement; bounds the number of parameters. */
const CHUNK = 64

/** The objects of one kind, and how they are read and written. */
export interface HeldTable {
  readonly spec: AnySpec
  readonly rows: MemoryTable<unknown, string>
}

/** Fills the tables with what is stored. Throws `CS_DATASTORE_CORRUPT`, `CS_DATASTORE_FOREIGN`. */
export async function loadState(options: {
  readonly database: Kysely<Schema>
  readonly trustDomain: string
  readonly tables: ReadonlyMap<string, HeldTable>
}): Promise<Position> {
  const { database, tables } = options
  await claim(database, options.trustDomain)
  const position = await endOfLog(database)
  const rows = await database.selectFrom('objects').selectAll().orderBy('created').execute()
  for (const { kind, key, created, sequence, payload } of rows) {
    const table = tables.get(kind)
    if (!table) throw corrupt(`it holds an object of the unknown kind ${kind}`)
    if (sequence > position.sequence) throw corrupt(`${kind} ${key} is newer than the change log`)
    table.rows.put(decode(table.spec, key, payload), created)
  }
  return position
}

/** Appends to the log and brings the objects up to date, in one transaction. */
export async function persist(options: {
  readonly database: Kysely<Schema>
  readonly planned: readonly PlannedChange[]
  /** Last position of the log. If the log has moved on, the insertion fails on its primary key. */
  readonly after: number
  readonly at: number
}): Promise<void> {
  const { database, planned, after, at } = options
  const changes = planned.map(
    ({ table, key, value }, index): LoggedChange => ({
      sequence: after + index + 1,
      at,
      kind: table.kind,
      key,
      payload: value === undefined ? null : table.encode(value),
    }),
  )
  await database.transaction().execute(async (transaction) => {
    for (const chunk of inChunks(changes)) {
      await transaction.insertInto('changes').values(chunk).execute()
    }
    await updateObjects(transaction, changes)
  })
}

export function readLog(
  database: Kysely<Schema>,
  after: number,
  limit: number,
): Promise<LoggedChange[]> {
  const newer = database.selectFrom('changes').selectAll().where('sequence', '>', after)
  return newer.orderBy('sequence').limit(limit).execute()
}

/** The last row always stays: it says where the log goes on. */
export async function trimLog(database: Kysely<Schema>, upTo: number): Promise<void> {
  const last = sql<number>`(select max(sequence) from changes)`
  await database
    .deleteFrom('changes')
    .where('sequence', '<=', upTo)
    .where('sequence', '<', last)
    .execute()
}

async function updateObjects(
  transaction: Transaction<Schema>,
  changes: readonly LoggedChange[],
): Promise<void> {
  const kept = new Map<string, Schema['objects']>()
  for (const { sequence, kind, key, payload } of changes) {
    const name = `${kind} ${key}`
    if (payload === null) {
      kept.delete(name)
      await transaction
        .deleteFrom('objects')
        .where('kind', '=', kind)
        .where('key', '=', key)
        .execute()
    } else {
      kept.set(name, { kind, key, created: kept.get(name)?.created ?? sequence, sequence, payload })
    }
  }
  for (const chunk of inChunks([...kept.values()])) {
    await transaction
      .insertInto('objects')
      .values(chunk)
      .onConflict((conflict) =>
        conflict.columns(['kind', 'key']).doUpdateSet((row) => ({
          sequence: row.ref('excluded.sequence'),
          payload: row.ref('excluded.payload'),
        })),
      )
      .execute()
  }
}

/** A new datastore takes the name; an old one must already have it. */
async function claim(database: Kysely<Schema>, trustDomain: string): Promise<void> {
  await database
    .insertInto('facts')
    .values({ name: 'trust_domain', value: trustDomain })
    .onConflict((conflict) => conflict.doNothing())
    .execute()
  const named = database.selectFrom('facts').select('value').where('name', '=', 'trust_domain')
  const { value } = await named.executeTakeFirstOrThrow()
  if (value !== trustDomain) {
    throw new SentryError(
      'CS_DATASTORE_FOREIGN',
      `datastore belongs to trust domain ${value}, not ${trustDomain}`,
    )
  }
}

/** A gap means that rows were lost or removed behind our back. */
async function endOfLog(database: Kysely<Schema>): Promise<Position> {
  const { count, first, last, at } = await database
    .selectFrom('changes')
    .select([
      sql<number>`count(*)`.as('count'),
      sql<number | null>`min(sequence)`.as('first'),
      sql<number | null>`max(sequence)`.as('last'),
      sql<number | null>`max(at)`.as('at'),
    ])
    .executeTakeFirstOrThrow()
  if (first === null || last === null) return { sequence: 0, at: 0 }
  if (last - first + 1 !== count) throw corrupt('its change log has a gap')
  return { sequence: last, at: at ?? 0 }
}

function decode(spec: AnySpec, key: string, payload: string): unknown {
  try {
    return spec.decode(payload)
  } catch (error) {
    throw corrupt(`${spec.kind} ${key} cannot be read`, { cause: error })
  }
}

function* inChunks<T>(items: readonly T[]): IterableIterator<T[]> {
  for (let start = 0; start < items.length; start += CHUNK) yield items.slice(start, start + CHUNK)
}

function corrupt(why: string, options?: ErrorOptions): SentryError {
  return new SentryError('CS_DATASTORE_CORRUPT', `datastore is damaged: ${why}`, options)
}

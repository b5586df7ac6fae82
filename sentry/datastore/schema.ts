import { type Kysely, sql } from 'kysely'
import { SentryError } from '../errors.js'

/** The one ordered log. A row without a payload says that the object is gone. */
interface ChangesTable {
  sequence: number
  /** Milliseconds since 1970. */
  at: number
  kind: string
  key: string
  payload: string | null
}

/** What the log comes to: the last payload of every object that is there. */
interface ObjectsTable {
  kind: string
  key: string
  /** Sequence of the change that created the object. */
  created: number
  /** Sequence of the last change of the object. */
  sequence: number
  payload: string
}

export interface Schema {
  schema_versions: { version: number; applied_at: number }
  facts: { name: string; value: string }
  changes: ChangesTable
  objects: ObjectsTable
}

type Migration = (database: Kysely<Schema>) => Promise<void>

/** The n-th brings a datastore of version n to version n + 1. Never changed once released, only added to. */
const migrations: readonly Migration[] = [
  async (database) => {
    await database.schema
      .createTable('facts')
      .addColumn('name', 'text', (column) => column.primaryKey())
      .addColumn('value', 'text', (column) => column.notNull())
      .execute()
    await database.schema
      .createTable('changes')
      .addColumn('sequence', 'bigint', (column) => column.primaryKey())
      .addColumn('at', 'bigint', (column) => column.notNull())
      .addColumn('kind', 'text', (column) => column.notNull())
      .addColumn('key', 'text', (column) => column.notNull())
      .addColumn('payload', 'text')
      .execute()
    await database.schema
      .createTable('objects')
      .addColumn('kind', 'text', (column) => column.notNull())
      .addColumn('key', 'text', (column) => column.notNull())
      .addColumn('created', 'bigint', (column) => column.notNull())
      .addColumn('sequence', 'bigint', (column) => column.notNull())
      .addColumn('payload', 'text', (column) => column.notNull())
      .addPrimaryKeyConstraint('objects_key', ['kind', 'key'])
      .execute()
  },
]

export const SCHEMA_VERSION = migrations.length

/** Brings the schema up to date, each step in a transaction of its own. Throws `CS_DATASTORE_TOO_NEW`. */
export async function migrate(database: Kysely<Schema>, now: Date): Promise<void> {
  const version = await versionOf(database)
  assertKnownVersion(version)
  for (const [index, step] of migrations.entries()) {
    if (index < version) continue
    await database.transaction().execute(async (transaction) => {
      await step(transaction)
      const applied = { version: index + 1, applied_at: now.getTime() }
      await transaction.insertInto('schema_versions').values(applied).execute()
    })
  }
}

/** Throws `CS_DATASTORE_TOO_NEW`. */
export function assertKnownVersion(version: number): void {
  if (version <= SCHEMA_VERSION) return
  throw new SentryError(
    'CS_DATASTORE_TOO_NEW',
    `datastore has schema version ${version}, this program knows up to ${SCHEMA_VERSION}`,
  )
}

async function versionOf(database: Kysely<Schema>): Promise<number> {
  await database.schema
    .createTable('schema_versions')
    .ifNotExists()
    .addColumn('version', 'integer', (column) => column.primaryKey())
    .addColumn('applied_at', 'bigint', (column) => column.notNull())
    .execute()
  const newest = sql<number | null>`max(version)`.as('version')
  const row = await database.selectFrom('schema_versions').select(newest).executeTakeFirst()
  return row?.version ?? 0
}

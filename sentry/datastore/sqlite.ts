import { existsSync, statSync } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import {
  DatabaseSync,
  type DatabaseSyncInstance,
  type StatementSyncInstance,
} from '@photostructure/sqlite'
import { type Dialect, type SqliteDatabase, SqliteDialect, type SqliteStatement } from 'kysely'
import { PlatformError } from '../../platform/errors.js'
import { SentryError } from '../errors.js'
import { assertKnownVersion } from './schema.js'

/** How long opening waits for a predecessor that is just letting go of the file. */
const BUSY_TIMEOUT_MS = 1000
const MAX_PREPARED = 64

/** Primary result codes of SQLite (https://www.sqlite.org/rescode.html). */
const SQLITE_BUSY = 5
const SQLITE_READONLY = 8
const SQLITE_CORRUPT = 11
const SQLITE_CANTOPEN = 14
const SQLITE_NOTADB = 26

/**
 * Opens the file for this process alone. A file that is there is looked at first, without writing:
 * throws `CS_DATASTORE_CORRUPT` for a damaged one, `CS_DATASTORE_TOO_NEW`, `CS_FOLDER_IN_USE` when
 * another process has it and `CS_FILE_UNREADABLE` when it cannot be opened.
 */
export async function openSqlite(path: string): Promise<Dialect> {
  try {
    if (existsSync(path)) assertAcceptable(path)
    else await createEmpty(path)
    return new SqliteDialect({ database: kyselyDatabase(openExclusively(path)) })
  } catch (error) {
    throw coded(path, error)
  }
}

/** Judges the file as it lies there. Nothing is written, so that a refused file stays as it was. */
function assertAcceptable(path: string): void {
  if (statSync(path).size === 0) throw corrupt(path, 'the file is empty')
  const database = new DatabaseSync(path, { readOnly: true, timeout: BUSY_TIMEOUT_MS })
  try {
    const finding = ask(database, 'select answer(quick_check) from pragma_quick_check')
    if (finding !== 'ok') throw corrupt(path, String(finding))
    const tables = "select answer(count(*)) from sqlite_master where name = 'schema_versions'"
    if (ask(database, tables) === 0) return
    assertKnownVersion(Number(ask(database, 'select answer(max(version)) from schema_versions')))
  } finally {
    database.close()
  }
}

/** The first answer of a query. `exec` leaves no statement behind; one would keep the file locked until it is collected. */
function ask(database: DatabaseSyncInstance, query: string): unknown {
  const answers: unknown[] = []
  database.function('answer', (value: unknown) => answers.push(value))
  database.exec(query)
  return answers[0]
}

/** Built beside its place and moved there, so that a half-made file never looks like a damaged one. */
async function createEmpty(path: string): Promise<void> {
  // SQLite would replay a log that lies beside a new file into it.
  if (existsSync(`${path}-wal`)) throw corrupt(path, 'only its write-ahead log is left')
  const draft = `${path}.new`
  await rm(draft, { force: true })
  const database = new DatabaseSync(draft)
  // The first write of any kind gives the file its header.
  database.exec('pragma user_version = 1')
  database.close()
  await rename(draft, path)
  const folder = await open(dirname(path), 'r')
  await folder.sync().finally(() => folder.close())
}

function openExclusively(path: string): DatabaseSyncInstance {
  const database = new DatabaseSync(path, {
    enableForeignKeyConstraints: true,
    timeout: BUSY_TIMEOUT_MS,
  })
  try {
    database.exec('pragma journal_mode = wal; pragma synchronous = full')
    // Without this read before it, exclusive mode could not be left again.
    database.exec('select 1 from sqlite_master')
    // Taken by the transaction and kept until close: a second sentry on the same file would decide
    // from memory that is out of date.
    database.exec('pragma locking_mode = exclusive; begin exclusive; commit')
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

/** The few methods of better-sqlite3 that Kysely calls. */
function kyselyDatabase(database: DatabaseSyncInstance): SqliteDatabase {
  const prepared = new Map<string, SqliteStatement>()
  return {
    prepare(sql) {
      const held = prepared.get(sql)
      if (held) return held
      const statement = kyselyStatement(database.prepare(sql))
      if (prepared.size >= MAX_PREPARED) prepared.clear()
      prepared.set(sql, statement)
      return statement
    },
    close() {
      // Prepared statements keep the connection, and with it the lock, until they are collected;
      // out of WAL mode an idle connection holds none.
      database.exec('pragma wal_checkpoint(truncate); pragma locking_mode = normal')
      database.exec('select 1 from sqlite_master; pragma journal_mode = delete')
      database.exec('select 1 from sqlite_master')
      database.close()
    },
  }
}

function kyselyStatement(statement: StatementSyncInstance): SqliteStatement {
  return {
    reader: statement.columns().length > 0,
    all: (parameters) => statement.all(...parameters),
    run: (parameters) => statement.run(...parameters),
    iterate: (parameters) => statement.iterate(...parameters),
  }
}

function coded(path: string, error: unknown): Error {
  if (error instanceof SentryError || error instanceof PlatformError) return error
  const cause = { cause: error }
  switch (sqliteCode(error)) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return corrupt(path, (error as Error).message, cause)
    case SQLITE_BUSY:
      return new PlatformError('CS_FOLDER_IN_USE', `another process has ${path} open`, cause)
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
      return new PlatformError('CS_FILE_UNREADABLE', `${path} cannot be opened for writing`, cause)
    default:
      return new SentryError('CS_DATASTORE_UNAVAILABLE', `${path} cannot be opened`, cause)
  }
}

/** Extended codes carry the primary one in their low byte. */
function sqliteCode(error: unknown): number | undefined {
  const code = error instanceof Error && 'sqliteCode' in error ? error.sqliteCode : undefined
  return typeof code === 'number' ? code & 0xff : undefined
}

function corrupt(path: string, why: string, options?: ErrorOptions): SentryError {
  return new SentryError('CS_DATASTORE_CORRUPT', `${path} is damaged: ${why}`, options)
}

import { copyFile, readdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { DatabaseSync } from '@photostructure/sqlite'
import { expect, test } from 'vitest'
import { silentLog } from '../../../platform/log.js'
import {
  type Change,
  changesOf,
  type Datastore,
  openDatastore,
} from '../../../sentry/datastore/datastore.js'
import { openSqlite } from '../../../sentry/datastore/sqlite.js'
import type { TableSpec } from '../../../sentry/datastore/table.js'
import { fakeClock } from '../../support/fake-clock.js'
import { tempFolder } from '../../support/temp-folder.js'

interface Note {
  readonly name: string
  readonly text: string
}

const notes: TableSpec<Note, 'text'> = {
  kind: 'note',
  indexes: ['text'],
  keyOf: ({ name }) => name,
  termsOf: (_, { text }) => [text],
  encode: (note) => JSON.stringify(note),
  decode: (payload) => JSON.parse(payload) as Note,
}

const clock = fakeClock()

async function openAt(path: string, trustDomain = 'prod.example'): Promise<Datastore> {
  const dialect = await openSqlite(path)
  return openDatastore({ dialect, tables: [notes], trustDomain, clock, log: silentLog })
}

const put = (store: Datastore, name: string, text: string) =>
  store.write((draft) => draft.table(notes).put({ name, text }))

const refusal = (promise: Promise<unknown>) =>
  promise.then(
    () => 'nothing was refused',
    (error: { code?: string }) => error.code,
  )

test('what was written is there again after a restart, in the order of creation', async () => {
  await using folder = await tempFolder()
  const path = folder.file('sentry.db')
  {
    await using store = await openAt(path)
    await put(store, 'b', '1')
    await put(store, 'a', '2')
    await put(store, 'c', '3')
    await put(store, 'b', '4')
    await store.write((draft) => draft.table(notes).remove('c'))
  }
  await using store = await openAt(path)
  expect([...store.view(notes).values()]).toEqual([
    { name: 'b', text: '4' },
    { name: 'a', text: '2' },
  ])
  expect(store.sequence).toBe(5)
  expect(store.changedAt).toBe(clock.now().getTime())
})

test('the log holds every change in order, without a gap, with a tombstone for what is gone', async () => {
  await using folder = await tempFolder()
  await using store = await openAt(folder.file('sentry.db'))
  await put(store, 'a', '1')
  await store.write((draft) => {
    draft.table(notes).put({ name: 'b', text: '2' })
    draft.table(notes).remove('a')
  })
  const log = await store.logAfter(0, 10)
  expect(log.map(({ sequence, key, payload }) => [sequence, key, payload])).toEqual([
    [1, 'a', '{"name":"a","text":"1"}'],
    [2, 'b', '{"name":"b","text":"2"}'],
    [3, 'a', null],
  ])
  expect(await store.logAfter(2, 10)).toHaveLength(1)
})

test('listeners hear of a commit once, with what was there before and what is there now', async () => {
  await using folder = await tempFolder()
  await using store = await openAt(folder.file('sentry.db'))
  const heard: (readonly Change[])[] = []
  const stop = store.onChange((changes) => heard.push(changes))
  await put(store, 'a', '1')
  await put(store, 'a', '2')
  stop()
  await put(store, 'a', '3')
  expect(heard).toHaveLength(2)
  expect(changesOf(notes, heard[1]!)).toMatchObject([
    { sequence: 2, key: 'a', before: { text: '1' }, after: { text: '2' } },
  ])
})

test('a listener that throws neither undoes the write nor keeps it from the others', async () => {
  await using folder = await tempFolder()
  await using store = await openAt(folder.file('sentry.db'))
  let heard = 0
  store.onChange(() => {
    throw new Error('broken listener')
  })
  store.onChange(() => {
    heard += 1
  })
  await put(store, 'a', '1')
  expect([heard, store.view(notes).get('a')?.text]).toEqual([1, '1'])
})

test('a decision that throws is told to its caller and changes nothing', async () => {
  await using folder = await tempFolder()
  await using store = await openAt(folder.file('sentry.db'))
  const refused = store.write((draft) => {
    draft.table(notes).put({ name: 'a', text: '1' })
    throw new RangeError('no')
  })
  await expect(refused).rejects.toThrow(RangeError)
  expect([store.sequence, store.view(notes).size]).toEqual([0, 0])
})

test('writes made at once see each other in turn: of a hundred that want one thing, one gets it', async () => {
  await using folder = await tempFolder()
  await using store = await openAt(folder.file('sentry.db'))
  await put(store, 'prize', 'there')
  const takers = Array.from({ length: 100 }, (_, taker) =>
    store.write((draft) => {
      const table = draft.table(notes)
      if (!table.get('prize')) throw new Error('gone')
      table.remove('prize')
      return taker
    }),
  )
  const outcomes = await Promise.allSettled(takers)
  expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
  expect(store.sequence).toBe(2)
})

test('a write says at which position of the log it is in', async () => {
  await using folder = await tempFolder()
  await using store = await openAt(folder.file('sentry.db'))
  const written = await Promise.all(['a', 'b', 'c'].map((name) => put(store, name, '1')))
  expect(written.map(({ sequence }) => sequence)).toEqual([1, 2, 3])
})

test('trimming the log keeps the objects and the position', async () => {
  await using folder = await tempFolder()
  const path = folder.file('sentry.db')
  {
    await using store = await openAt(path)
    for (const name of ['a', 'b', 'c', 'd']) await put(store, name, '1')
    await store.trimLog(2)
    expect((await store.logAfter(0, 10)).map(({ sequence }) => sequence)).toEqual([3, 4])
    await store.trimLog(0)
    expect((await store.logAfter(0, 10)).map(({ sequence }) => sequence)).toEqual([4])
  }
  await using store = await openAt(path)
  expect([store.sequence, store.view(notes).size]).toEqual([4, 4])
})

test('a failed write is told by code and undone; the state stays readable', async () => {
  await using folder = await tempFolder()
  const path = folder.file('sentry.db')
  await using store = await openAt(path)
  await put(store, 'a', '1')
  const unwritable = { name: 'b', text: '2', toJSON: () => unwritableValue() }
  const write = store.write((draft) => draft.table(notes).put(unwritable))
  expect(await refusal(write)).toBe('CS_DATASTORE_UNAVAILABLE')
  expect(store.failure()?.code).toBe('CS_DATASTORE_UNAVAILABLE')
  expect([...store.view(notes).values()]).toHaveLength(1)
  await put(store, 'c', '3')
  expect([store.failure(), store.sequence]).toEqual([undefined, 2])
})

function unwritableValue(): never {
  throw new Error('this cannot be written')
}

test('a closed datastore refuses writes and can be closed twice', async () => {
  await using folder = await tempFolder()
  const store = await openAt(folder.file('sentry.db'))
  const last = put(store, 'a', '1')
  await store[Symbol.asyncDispose]()
  await store[Symbol.asyncDispose]()
  await last
  expect(await refusal(put(store, 'b', '2'))).toBe('CS_DATASTORE_UNAVAILABLE')
})

test('a clean close leaves one file', async () => {
  await using folder = await tempFolder()
  const store = await openAt(folder.file('sentry.db'))
  await put(store, 'a', '1')
  await store[Symbol.asyncDispose]()
  expect(await readdir(folder.path)).toEqual(['sentry.db'])
})

test('the file belongs to one process and one trust domain', async () => {
  await using folder = await tempFolder()
  const path = folder.file('sentry.db')
  const store = await openAt(path)
  expect(await refusal(openSqlite(path))).toBe('CS_FOLDER_IN_USE')
  await store[Symbol.asyncDispose]()
  expect(await refusal(openAt(path, 'other.example'))).toBe('CS_DATASTORE_FOREIGN')
})

interface Damage {
  readonly name: string
  readonly code: string
  readonly damage: (path: string) => Promise<unknown>
}

const onDatabase = (path: string, sql: string) => {
  const database = new DatabaseSync(path)
  database.exec(sql)
  database.close()
  return Promise.resolve()
}

const damages: readonly Damage[] = [
  {
    name: 'cut to nothing',
    code: 'CS_DATASTORE_CORRUPT',
    damage: (path) => truncate(path, 0),
  },
  {
    name: 'cut within its header',
    code: 'CS_DATASTORE_CORRUPT',
    damage: (path) => truncate(path, 50),
  },
  {
    name: 'cut at a page',
    code: 'CS_DATASTORE_CORRUPT',
    damage: (path) => truncate(path, 4096 * 3),
  },
  {
    name: 'cut within a page',
    code: 'CS_DATASTORE_CORRUPT',
    damage: (path) => truncate(path, 4096 * 3 + 1000),
  },
  {
    name: 'that is no database',
    code: 'CS_DATASTORE_CORRUPT',
    damage: (path) => writeFile(path, 'a shopping list\n'.repeat(1000)),
  },
  {
    name: 'with a row of the log removed',
    code: 'CS_DATASTORE_CORRUPT',
    damage: (path) => onDatabase(path, 'delete from changes where sequence = 7'),
  },
  {
    name: 'with an object that cannot be read',
    code: 'CS_DATASTORE_CORRUPT',
    damage: (path) => onDatabase(path, "update objects set payload = '{' where key = 'n7'"),
  },
  {
    name: 'with an object of an unknown kind',
    code: 'CS_DATASTORE_CORRUPT',
    damage: (path) => onDatabase(path, "update objects set kind = 'spaceship' where key = 'n7'"),
  },
  {
    name: 'of a newer version',
    code: 'CS_DATASTORE_TOO_NEW',
    damage: (path) => onDatabase(path, 'insert into schema_versions values (99, 0)'),
  },
]

test.each(damages)('a file $name is refused and stays as it is', async ({ code, damage }) => {
  await using folder = await tempFolder()
  const path = folder.file('sentry.db')
  {
    await using store = await openAt(path)
    for (let note = 0; note < 50; note += 1) await put(store, `n${note}`, 'x'.repeat(300))
  }
  await damage(path)
  const before = await contentOf(path)
  expect(await refusal(openAt(path))).toBe(code)
  expect(await contentOf(path)).toEqual(before)
})

/** All that the datastore holds, or the bytes where it is not a datastore any more. */
async function contentOf(path: string): Promise<unknown> {
  try {
    const database = new DatabaseSync(path, { readOnly: true })
    const rows = ['changes', 'objects', 'schema_versions'].map((table) =>
      database.prepare(`select * from ${table}`).all(),
    )
    database.close()
    return rows
  } catch {
    return readFile(path)
  }
}

test('a write-ahead log without its database is not replayed into a new one', async () => {
  await using folder = await tempFolder()
  const path = folder.file('sentry.db')
  await writeFile(`${path}-wal`, 'left behind')
  expect(await refusal(openSqlite(path))).toBe('CS_DATASTORE_CORRUPT')
})

test('a half-made new file of a killed predecessor is made anew', async () => {
  await using folder = await tempFolder()
  const path = folder.file('sentry.db')
  await writeFile(`${path}.new`, 'half a file')
  await using store = await openAt(path)
  await put(store, 'a', '1')
  expect(store.sequence).toBe(1)
})

test('a copy of the file is a backup', async () => {
  await using folder = await tempFolder()
  const path = folder.file('sentry.db')
  {
    await using store = await openAt(path)
    await put(store, 'a', '1')
  }
  await copyFile(path, folder.file('copy.db'))
  await using copy = await openAt(folder.file('copy.db'))
  expect(copy.view(notes).get('a')).toEqual({ name: 'a', text: '1' })
})

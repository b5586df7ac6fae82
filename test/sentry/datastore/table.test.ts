import fc from 'fast-check'
import { expect, test } from 'vitest'
import { draftOver, replay } from '../../../sentry/datastore/draft.js'
import { draftTable, memoryTable, type TableSpec } from '../../../sentry/datastore/table.js'

interface Book {
  readonly title: string
  readonly authors: readonly string[]
}

const books: TableSpec<Book, 'author'> = {
  kind: 'book',
  indexes: ['author'],
  keyOf: ({ title }) => title,
  termsOf: (_, { authors }) => authors,
  encode: (book) => JSON.stringify(book),
  decode: (payload) => JSON.parse(payload) as Book,
}

const titles = (found: Iterable<Book>) => [...found].map(({ title }) => title)

test('an object is found by its key and under every term of an index', () => {
  const table = memoryTable(books)
  table.put({ title: 'K', authors: ['Kernighan', 'Ritchie'] }, 1)
  expect(table.get('K')?.authors).toEqual(['Kernighan', 'Ritchie'])
  expect(titles(table.by('author', 'Ritchie'))).toEqual(['K'])
  expect(table.by('author', 'Knuth')).toEqual([])
})

test('a replaced object is no longer filed under its old terms', () => {
  const table = memoryTable(books)
  table.put({ title: 'K', authors: ['Kernighan'] }, 1)
  table.put({ title: 'K', authors: ['Knuth'] }, 2)
  expect(table.by('author', 'Kernighan')).toEqual([])
  expect(titles(table.by('author', 'Knuth'))).toEqual(['K'])
  expect(table.size).toBe(1)
})

test('replacing keeps the place in the order of creation, removing and adding again does not', () => {
  const table = memoryTable(books)
  for (const [index, title] of ['A', 'B', 'C'].entries()) {
    table.put({ title, authors: [] }, index + 1)
  }
  table.put({ title: 'A', authors: ['x'] }, 4)
  table.remove('B')
  table.put({ title: 'B', authors: [] }, 5)
  expect(titles(table.values())).toEqual(['A', 'C', 'B'])
  expect([...table.createdAfter(1)].map(({ created }) => created)).toEqual([3, 5])
})

test('what is drafted is seen in the draft and not below it', () => {
  const table = memoryTable(books)
  table.put({ title: 'A', authors: ['x'] }, 1)
  table.put({ title: 'B', authors: ['x'] }, 2)
  const draft = draftTable(books, table, () => {})
  draft.remove('A')
  draft.put({ title: 'C', authors: ['x'] })
  draft.put({ title: 'B', authors: ['y'] })
  expect(titles(draft.by('author', 'x'))).toEqual(['C'])
  expect(titles(draft.values())).toEqual(['C', 'B'])
  expect([draft.size, draft.get('A')]).toEqual([2, undefined])
  expect(titles(table.by('author', 'x'))).toEqual(['A', 'B'])
})

const step = fc.oneof(
  fc.record({
    put: fc.record({
      title: fc.constantFrom('A', 'B', 'C', 'D'),
      authors: fc.uniqueArray(fc.constantFrom('x', 'y', 'z')),
    }),
  }),
  fc.record({ remove: fc.constantFrom('A', 'B', 'C', 'D') }),
)

test('a draft of a draft, replayed, reads the same as the changes made at once', () => {
  fc.assert(
    fc.property(fc.array(step), fc.array(step), fc.array(step), (first, second, third) => {
      const plain = memoryTable(books)
      const base = memoryTable(books)
      const group = draftOver(() => base as never)
      const own = draftOver((table) => group.draft.table(table))
      const apply = (target: {
        put: (b: Book, n: number) => void
        remove: (k: string) => void
      }) => {
        return (change: (typeof first)[number]) =>
          'put' in change ? target.put(change.put, 1) : target.remove(change.remove)
      }
      first.forEach(apply(base))
      second.forEach(apply(group.draft.table(books)))
      third.forEach(apply(own.draft.table(books)))
      replay(own.planned, group.draft)
      ;[...first, ...second, ...third].forEach(apply(plain))

      const seen = group.draft.table(books)
      expect(titles(seen.values()).sort()).toEqual(titles(plain.values()).sort())
      expect(seen.size).toBe(plain.size)
      for (const author of ['x', 'y', 'z']) {
        expect(titles(seen.by('author', author)).sort()).toEqual(
          titles(plain.by('author', author)).sort(),
        )
      }
    }),
  )
})

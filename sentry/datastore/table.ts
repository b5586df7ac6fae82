/** One kind of object in the datastore: how it is named, written and looked up. Objects are immutable. */
export interface TableSpec<T, Index extends string = never> {
  /** Stands in the datastore; never changed once released. */
  readonly kind: string
  readonly indexes: readonly Index[]
  keyOf(value: T): string
  /** Under which terms an index files the object. */
  termsOf(index: Index, value: T): readonly string[]
  encode(value: T): string
  decode(payload: string): T
}

/** A table of whatever it holds, where only the machinery looks at it. */
export type AnySpec = TableSpec<unknown, string>

/** Objects of one kind as they stand now. */
export interface View<T, Index extends string = never> {
  readonly size: number
  get(key: string): T | undefined
  by(index: Index, term: string): readonly T[]
  /** In the order of creation. */
  values(): IterableIterator<T>
}

/** A view that remembers when each object was created. */
export interface OrderedView<T, Index extends string = never> extends View<T, Index> {
  /** Objects created after that position of the log, oldest first. */
  createdAfter(position: number): IterableIterator<{ readonly value: T; readonly created: number }>
}

export interface MemoryTable<T, Index extends string = never> extends OrderedView<T, Index> {
  /** `created` counts only for an object that is not there yet. */
  put(value: T, created: number): void
  remove(key: string): void
}

/** A view with changes on top that nobody else sees. */
export interface DraftTable<T, Index extends string = never> extends View<T, Index> {
  put(value: T): void
  remove(key: string): void
}

export function memoryTable<T, Index extends string>(
  spec: TableSpec<T, Index>,
): MemoryTable<T, Index> {
  const rows = new Map<string, { readonly value: T; readonly created: number }>()
  const filed = new Map<Index, Map<string, Set<string>>>()
  for (const index of spec.indexes) filed.set(index, new Map())

  const file = (key: string, value: T) => {
    for (const index of spec.indexes) {
      const terms = filed.get(index)
      for (const term of spec.termsOf(index, value)) {
        const keys = terms?.get(term)
        if (keys) keys.add(key)
        else terms?.set(term, new Set([key]))
      }
    }
  }
  const unfile = (key: string, value: T) => {
    for (const index of spec.indexes) {
      const terms = filed.get(index)
      for (const term of spec.termsOf(index, value)) {
        const keys = terms?.get(term)
        keys?.delete(key)
        if (keys?.size === 0) terms?.delete(term)
      }
    }
  }

  return {
    get size() {
      return rows.size
    },
    get: (key) => rows.get(key)?.value,
    by: (index, term) =>
      Array.from(filed.get(index)?.get(term) ?? []).flatMap((key) => rows.get(key)?.value ?? []),
    *values() {
      for (const { value } of rows.values()) yield value
    },
    *createdAfter(position) {
      for (const row of rows.values()) if (row.created > position) yield row
    },
    put(value, created) {
      const key = spec.keyOf(value)
      const held = rows.get(key)
      if (held) unfile(key, held.value)
      rows.set(key, { value, created: held?.created ?? created })
      file(key, value)
    },
    remove(key) {
      const held = rows.get(key)
      if (!held) return
      rows.delete(key)
      unfile(key, held.value)
    },
  }
}

/** `onChange` hears of each change in order, with `undefined` for a removal. */
export function draftTable<T, Index extends string>(
  spec: TableSpec<T, Index>,
  base: View<T, Index>,
  onChange: (key: string, value: T | undefined) => void,
): DraftTable<T, Index> {
  const own = memoryTable(spec)
  const covered = new Set<string>()
  let coveredInBase = 0
  const cover = (key: string) => {
    if (covered.has(key)) return
    covered.add(key)
    if (base.get(key) !== undefined) coveredInBase += 1
  }
  return {
    get size() {
      return base.size - coveredInBase + own.size
    },
    get: (key) => (covered.has(key) ? own.get(key) : base.get(key)),
    by: (index, term) => [
      ...base.by(index, term).filter((value) => !covered.has(spec.keyOf(value))),
      ...own.by(index, term),
    ],
    *values() {
      for (const value of base.values()) if (!covered.has(spec.keyOf(value))) yield value
      yield* own.values()
    },
    put(value) {
      const key = spec.keyOf(value)
      cover(key)
      own.put(value, 0)
      onChange(key, value)
    },
    remove(key) {
      cover(key)
      own.remove(key)
      onChange(key, undefined)
    },
  }
}

import { type AnySpec, type DraftTable, draftTable, type TableSpec, type View } from './table.js'

/** The state with one's own changes on top, for as long as a write decides. */
export interface Draft {
  table<T, Index extends string>(table: TableSpec<T, Index>): DraftTable<T, Index>
}

export interface PlannedChange {
  readonly table: AnySpec
  readonly key: string
  /** Undefined for a removal. */
  readonly value: unknown
}

type ViewOf = <T, Index extends string>(table: TableSpec<T, Index>) => View<T, Index>

/** A draft on top of a state, or of another draft, and the list of its changes as it grows. */
export function draftOver(base: ViewOf): {
  readonly draft: Draft
  readonly planned: readonly PlannedChange[]
} {
  const planned: PlannedChange[] = []
  const tables = new Map<string, unknown>()
  const draft: Draft = {
    table<T, Index extends string>(table: TableSpec<T, Index>) {
      const held = tables.get(table.kind)
      if (held) return held as DraftTable<T, Index>
      const made = draftTable(table, base(table), (key, value) => {
        planned.push({ table, key, value })
      })
      tables.set(table.kind, made)
      return made
    },
  }
  return { draft, planned }
}

/** Makes the same changes on another draft. */
export function replay(planned: readonly PlannedChange[], onto: Draft): void {
  for (const { table, key, value } of planned) {
    if (value === undefined) onto.table(table).remove(key)
    else onto.table(table).put(value)
  }
}

import type { CompiledRule } from './compile.js'
import { decidingEntries, type Entries } from './entries.js'
import { PolicyError } from './errors.js'
import { type Growing, growing, trimmed } from './growing.js'
import { type PatternNumbers, type SegmentTable, segmentNumbers } from './segment-table.js'
import { type SourceTable, sourceTable } from './source-table.js'
import { type TrieBuilder, trieBuilder, type Walk, walkOver } from './trie.js'
import { eachWay, type Way } from './ways.js'

/** The rules that apply on one port, by source. */
export interface Sector {
  readonly sources: SourceTable
  /** {@link COLUMNS} numbers for each source. */
  readonly columns: Int32Array
  readonly segments: SegmentTable
  readonly walk: Walk
  /** Whether a path that folding leaves alone can match a folded pattern and not the pattern itself. */
  readonly foldedDiffers: boolean
}

/** Where a source's tries and lists stand; those of shadow rules follow at {@link SHADOW}. */
export const Column = { open: 0, root: 1, tcp: 2, folded: 3 } as const
export const SHADOW = 4
export const COLUMNS = 8

/** More than these are no policy of one app. */
export const MAX_PLACEMENTS = 4_000_000

export interface SectorOptions {
  readonly rules: readonly CompiledRule[]
  readonly entries: Entries
  readonly firstEntries: Int32Array
  /** `undefined` for an app without one. */
  readonly port: number | undefined
}

/** Builds the tries for one port. Throws `CS_SNAPSHOT_INVALID` when they would be too large. */
export function sectorOf({ rules, entries, firstEntries, port }: SectorOptions): Sector {
  const segments = segmentNumbers()
  const builder = trieBuilder()
  const sources = sourceTable()
  const columns = growing()
  const numbersOf = segments.numbersOf
  const placing: Placing = { builder, columns, numbersOf, placements: 0, foldedDiffers: false }

  rules.forEach((compiled, number) => {
    if (!isOnPort(compiled, port)) return
    const offset = compiled.shadow ? SHADOW : 0
    const rows = compiled.sources.map((source) => sources.keyOf(source) * COLUMNS + offset)
    while (columns.length < sources.size * COLUMNS) columns.push(0)
    let entry = firstEntries[number] ?? 0
    eachWay(compiled, (way) => {
      place(placing, { way, rows, entry, denies: compiled.class !== 'allow' })
      entry++
    })
  })

  const { tries, listOf } = builder.finish((list) => decidingEntries(entries, list))
  const query = { methodBit: 0, method: '', now: 0 }
  return {
    sources,
    columns: finishColumns(columns, listOf),
    segments: segments.table(),
    walk: walkOver(tries, { entries, lists: tries.lists, query }),
    foldedDiffers: placing.foldedDiffers,
  }
}

/** A port that is missing matches every deny and no allow that names ports. */
const isOnPort = ({ class: ruleClass, ports }: CompiledRule, port: number | undefined) =>
  ports === undefined || (port === undefined ? ruleClass !== 'allow' : ports.includes(port))

interface Placing {
  readonly builder: TrieBuilder
  readonly columns: Growing
  readonly numbersOf: (pattern: string, options: { readonly folded: boolean }) => PatternNumbers
  placements: number
  foldedDiffers: boolean
}

/** One way of one rule, for all sources of the rule. */
interface Placed {
  readonly way: Way
  /** Where the columns of each source begin. */
  readonly rows: readonly number[]
  readonly entry: number
  readonly denies: boolean
}

function place(placing: Placing, { way, rows, entry, denies }: Placed): void {
  placing.placements += rows.length
  if (placing.placements > MAX_PLACEMENTS) {
    throw new PolicyError('CS_SNAPSHOT_INVALID', `snapshot has more than ${MAX_PLACEMENTS} entries`)
  }
  const { kind, path } = way
  if (kind === 'everything' || kind === 'any-path')
    addToLists(placing, { rows, column: Column.open, entry })
  if (kind === 'everything' || kind === 'tcp')
    addToLists(placing, { rows, column: Column.tcp, entry })
  if (kind !== 'path') return

  const exact = placing.numbersOf(path, { folded: false })
  addToTries(placing, { rows, column: Column.root, pattern: exact, entry })
  if (!denies) return
  const folded = placing.numbersOf(path, { folded: true })
  addToTries(placing, { rows, column: Column.folded, pattern: folded, entry })
  placing.foldedDiffers ||= folded.differs
}

interface InColumn {
  readonly rows: readonly number[]
  readonly column: number
  readonly entry: number
}

function addToLists({ builder, columns }: Placing, { rows, column, entry }: InColumn): void {
  for (const row of rows) {
    const at = row + column
    const list = columns.values[at] || builder.newList()
    columns.values[at] = list
    builder.addToList(list, entry)
  }
}

function addToTries(
  { builder, columns }: Placing,
  { rows, column, entry, pattern }: InColumn & { readonly pattern: PatternNumbers },
): void {
  for (const row of rows) {
    const at = row + column
    const root = columns.values[at] || builder.newNode()
    columns.values[at] = root
    builder.addPattern(root, pattern, entry)
  }
}

function finishColumns(columns: Growing, listOf: (list: number) => number): Int32Array {
  const finished = trimmed(columns)
  for (let at = 0; at < finished.length; at += SHADOW) {
    finished[at + Column.open] = listOf(finished[at + Column.open] ?? 0)
    finished[at + Column.tcp] = listOf(finished[at + Column.tcp] ?? 0)
  }
  return finished
}

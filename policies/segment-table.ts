import { foldSegment, MAX_PATTERN, MAX_SEGMENTS, ONE, REST, segmentsOfPath } from './pattern.js'

/**
 * Every literal segment of a target's patterns, under a number. A request's path is turned into
 * numbers once, without making strings, and all tries are walked by number.
 */
export interface SegmentTable {
  /**
   * Four numbers for each literal, by open addressing, side by side so that one look at memory brings
   * them all: its number plus one (0 for an empty row), hash, start in `bytes`, length.
   */
  readonly rows: Int32Array
  readonly bytes: Uint8Array
  /** By number, 1 for a literal that folding changes. */
  readonly foldable: Uint8Array
}

const STRIDE = 4
const HASH = 1
const START = 2
const LENGTH = 3

/** Stands for a segment that no pattern names: only a wildcard matches it. */
export const UNKNOWN = -1

/** Stands for any one segment in a pattern. */
export const ANY_SEGMENT = -2

/** A pattern as numbers. Overwritten by the next call: it is used at once. */
export interface PatternNumbers {
  readonly numbers: Int32Array
  count: number
  /** Whether the pattern ends in `{**}`. */
  open: boolean
  /** Whether folding changed it. */
  differs: boolean
}

/** Numbers literals in the order in which they are first met. */
export interface SegmentNumbers {
  numbersOf(pattern: string, options: { readonly folded: boolean }): PatternNumbers
  table(): SegmentTable
}

export function segmentNumbers(): SegmentNumbers {
  const known = new Map<string, number>()
  const into: PatternNumbers = {
    numbers: new Int32Array(MAX_SEGMENTS),
    count: 0,
    open: false,
    differs: false,
  }
  const numberFor = (literal: string): number => {
    const number = known.get(literal) ?? known.size
    if (number === known.size) known.set(literal, number)
    return number
  }
  return {
    numbersOf(pattern, { folded }) {
      into.count = 0
      into.open = false
      into.differs = false
      for (const segment of segmentsOfPath(pattern)) {
        if (segment === REST) {
          into.open = true
        } else if (segment === ONE) {
          into.numbers[into.count++] = ANY_SEGMENT
        } else {
          const literal = folded ? foldSegment(segment) : segment
          if (literal !== segment) into.differs = true
          if (literal !== '') into.numbers[into.count++] = numberFor(literal)
        }
      }
      return into
    },
    table: () => tableOf([...known.keys()]),
  }
}

/** The segments of a path as numbers. Overwritten by the next split: a decision never waits. */
export interface SplitPath {
  /** As many as fit; a path that is longer than every pattern fills it. */
  readonly numbers: Int32Array
  /** The segment that is being read. Comparing bytes is cheaper than asking a string again. */
  readonly codes: Uint8Array
  /** Where each segment starts in the path, and at last where the next one would. */
  readonly starts: Int32Array
  count: number
}

/** A trie is never deeper than `depth`, so a segment past that only has to be known to exist. */
export const splitPath = (depth: number): SplitPath => ({
  numbers: new Int32Array(depth + 1),
  starts: new Int32Array(depth + 2),
  codes: new Uint8Array(MAX_PATTERN),
  count: 0,
})

/** Cuts a canonical path at its slashes and looks its segments up. Linear in the part it reads. */
export function split(table: SegmentTable, path: string, into: SplitPath): void {
  const { numbers, starts, codes } = into
  const { length } = path
  let count = 0
  let start = 1
  while (start < length && count < numbers.length) {
    let hash = HASH_START
    let at = start
    for (; at < length; at++) {
      const code = path.charCodeAt(at)
      if (code === SLASH) break
      // What is longer than any pattern falls off the end, and is not looked up by its length.
      codes[at - start] = code
      hash = Math.imul(hash ^ code, HASH_PRIME)
    }
    starts[count] = start
    numbers[count++] = numberOf(table, hash, codes, at - start)
    start = at + 1
  }
  starts[count] = start
  into.count = count
}

/** Whether folding could change a path that was split: only segments no pattern names are looked at. */
export function isFoldable(
  table: SegmentTable,
  path: string,
  { numbers, starts, count }: SplitPath,
): boolean {
  // No pattern has a literal behind the last segment that was read, but what is there may fold away.
  for (let at = starts[count] ?? 0; at < path.length; at++) {
    const code = path.charCodeAt(at)
    if (code === DOT || code === PERCENT) return true
  }
  for (let at = 0; at < count; at++) {
    const number = numbers[at] ?? UNKNOWN
    const isChanged =
      number === UNKNOWN
        ? isFoldableSegment(path, starts[at] ?? 0, (starts[at + 1] ?? 0) - 1)
        : table.foldable[number] === 1
    if (isChanged) return true
  }
  return false
}

function isFoldableSegment(path: string, start: number, end: number): boolean {
  for (let at = start; at < end; at++) {
    const code = path.charCodeAt(at)
    if ((code >= 0x41 && code <= 0x5a) || code === PERCENT) return true
  }
  return path.charCodeAt(end - 1) === DOT
}

const HASH_START = 0x811c9dc5 | 0
const HASH_PRIME = 0x01000193
const SLASH = 0x2f
const PERCENT = 0x25
const DOT = 0x2e

/** The number of the literal in `codes`. Runs for each segment: its arguments are no object. */
function numberOf(
  { rows, bytes }: SegmentTable,
  hash: number,
  codes: Uint8Array,
  length: number,
): number {
  const mask = rows.length / STRIDE - 1
  for (let row = hash & mask; ; row = (row + 1) & mask) {
    const field = row * STRIDE
    const number = (rows[field] ?? 0) - 1
    if (number === UNKNOWN) return UNKNOWN
    if (rows[field + HASH] !== hash || rows[field + LENGTH] !== length) continue
    const start = rows[field + START] ?? 0
    let at = 0
    while (at < length && codes[at] === bytes[start + at]) at++
    if (at === length) return number
  }
}

function tableOf(literals: readonly string[]): SegmentTable {
  const size = powerOfTwo(literals.length * 2 + 2)
  const rows = new Int32Array(size * STRIDE)
  let start = 0
  literals.forEach((literal, number) => {
    const hash = hashOf(literal)
    let row = hash & (size - 1)
    while (rows[row * STRIDE] !== 0) row = (row + 1) & (size - 1)
    rows[row * STRIDE] = number + 1
    rows[row * STRIDE + HASH] = hash
    rows[row * STRIDE + START] = start
    rows[row * STRIDE + LENGTH] = literal.length
    start += literal.length
  })
  return {
    rows,
    bytes: new TextEncoder().encode(literals.join('')),
    foldable: Uint8Array.from(literals, (literal) => (foldSegment(literal) === literal ? 0 : 1)),
  }
}

function hashOf(literal: string): number {
  let hash = HASH_START
  for (let at = 0; at < literal.length; at++) {
    hash = Math.imul(hash ^ literal.charCodeAt(at), HASH_PRIME)
  }
  return hash
}

export function powerOfTwo(atLeast: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(2, atLeast)))
}

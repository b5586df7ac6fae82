import { foldSegment, MAX_SEGMENTS, ONE, REST, segmentsOfPath } from './pattern.js'

/**
 * Every literal segment of a target's patterns, under a number. A request's path is turned into
 * numbers once, without making strings, and all tries are walked by number.
 */
export interface SegmentTable {
  /** Open addressing: a literal's number plus one, or 0. */
  readonly slots: Int32Array
  readonly hashes: Int32Array
  /** Where a literal starts in `bytes`; one more entry than literals. */
  readonly starts: Int32Array
  readonly bytes: Uint8Array
}

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
  const numberOf = (literal: string): number => {
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
          if (literal !== '') into.numbers[into.count++] = numberOf(literal)
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
  count: number
}

/** A trie is never deeper than `depth`, so a segment past that only has to be known to exist. */
export const splitPath = (depth: number): SplitPath => ({
  numbers: new Int32Array(depth + 1),
  count: 0,
})

/** Cuts a canonical path at its slashes and looks its segments up. Linear in the part it reads. */
export function split(table: SegmentTable, path: string, into: SplitPath): void {
  const { numbers } = into
  const { length } = path
  let count = 0
  let start = 1
  while (start < length && count < numbers.length) {
    let hash = HASH_START
    let at = start
    for (; at < length; at++) {
      const code = path.charCodeAt(at)
      if (code === SLASH) break
      hash = Math.imul(hash ^ code, HASH_PRIME)
    }
    numbers[count++] = numberAt(table, hash, path, start, at)
    start = at + 1
  }
  into.count = count
}

const HASH_START = 0x811c9dc5 | 0
const HASH_PRIME = 0x01000193
const SLASH = 0x2f

/** The number of the literal at `start` of a path. Runs for each segment: its arguments are no object. */
function numberAt(
  { slots, hashes, starts, bytes }: SegmentTable,
  hash: number,
  path: string,
  start: number,
  end: number,
): number {
  const mask = slots.length - 1
  for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
    const number = (slots[slot] ?? 0) - 1
    if (number === UNKNOWN) return UNKNOWN
    if (hashes[slot] !== hash) continue
    const from = starts[number] ?? 0
    if ((starts[number + 1] ?? 0) - from !== end - start) continue
    let at = start
    while (at < end && path.charCodeAt(at) === bytes[from + at - start]) at++
    if (at === end) return number
  }
}

function tableOf(literals: readonly string[]): SegmentTable {
  const size = powerOfTwo(literals.length * 2 + 2)
  const slots = new Int32Array(size)
  const hashes = new Int32Array(size)
  const starts = new Int32Array(literals.length + 1)
  literals.forEach((literal, number) => {
    starts[number + 1] = (starts[number] ?? 0) + literal.length
    const hash = hashOf(literal)
    let slot = hash & (size - 1)
    while (slots[slot] !== 0) slot = (slot + 1) & (size - 1)
    slots[slot] = number + 1
    hashes[slot] = hash
  })
  return { slots, hashes, starts, bytes: new TextEncoder().encode(literals.join('')) }
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

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

/** Numbers literals in the order in which they are first asked for. */
export interface SegmentNumbers {
  numberOf(literal: string): number
  table(): SegmentTable
}

export function segmentNumbers(): SegmentNumbers {
  const numbers = new Map<string, number>()
  return {
    numberOf(literal) {
      const known = numbers.get(literal)
      if (known !== undefined) return known
      const number = numbers.size
      numbers.set(literal, number)
      return number
    },
    table: () => tableOf([...numbers.keys()]),
  }
}

/** The segments of a path as numbers. Overwritten by the next split: a decision never waits. */
export interface SplitPath {
  /** As many as fit; a path that is longer than every pattern fills it. */
  readonly numbers: Int32Array
  count: number
  /** Whether folding could change the path, so that folded deny patterns need a look of their own. */
  foldable: boolean
}

/** A trie is never deeper than `depth`, so a segment past that only has to be known to exist. */
export const splitPath = (depth: number): SplitPath => ({
  numbers: new Int32Array(depth + 1),
  count: 0,
  foldable: false,
})

/** Cuts a canonical path at its slashes and looks its segments up. Linear in the part it reads. */
export function split(table: SegmentTable, path: string, into: SplitPath): void {
  const { numbers } = into
  const { length } = path
  let count = 0
  let foldable = false
  let start = 1
  while (start < length && count < numbers.length) {
    let hash = HASH_START
    let at = start
    let code = 0
    for (; at < length; at++) {
      const next = path.charCodeAt(at)
      if (next === SLASH) break
      code = next
      if (code >= 0x41 && code <= 0x5a) foldable = true
      hash = Math.imul(hash ^ code, HASH_PRIME)
    }
    if (code === DOT || code === ZERO) foldable ||= isTrimmed(path, at)
    numbers[count++] = numberAt(table, { path, start, end: at, hash })
    start = at + 1
  }
  into.count = count
  // What lies behind the last segment that was read may fold away.
  into.foldable = foldable || start < length
}

const HASH_START = 0x811c9dc5 | 0
const HASH_PRIME = 0x01000193
const SLASH = 0x2f
const DOT = 0x2e
const ZERO = 0x30

const isTrimmed = (path: string, end: number) =>
  path.charCodeAt(end - 1) === DOT || path.startsWith('%20', end - 3)

interface Segment {
  readonly path: string
  readonly start: number
  readonly end: number
  readonly hash: number
}

function numberAt(table: SegmentTable, { path, start, end, hash }: Segment): number {
  const { slots, hashes, starts, bytes } = table
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

import { firstPassing, type Judge, NO_ENTRY } from './entries.js'
import { type Growing, growing } from './growing.js'
import {
  ANY_SEGMENT,
  type PatternNumbers,
  powerOfTwo,
  type SplitPath,
  splitPath,
  UNKNOWN,
} from './segment-table.js'

/**
 * All path tries of a target in three flat arrays. Node 0 is no node. A node has an exact child for
 * some segments, at most one child for `{*}`, a list of entries that end in it, and a list of
 * entries that end in a `{**}` below it.
 */
export interface Tries {
  /**
   * Eight numbers for each node: list of `ends`, list of `rests`, `{*}` child, segment (plus one) and
   * node of the first child, whether there are more, and two unused. One look at memory brings them all.
   */
  readonly nodes: Int32Array
  /** Further children. Four numbers for each, by open addressing: node, segment, child, unused. */
  readonly edges: Int32Array
  /** Lists of entries in ascending order, each closed by {@link NO_ENTRY}; a list is where it starts. */
  readonly lists: Int32Array
  /** No trie is deeper. */
  readonly depth: number
}

/** The list with nothing in it. */
export const EMPTY_LIST = 0
/** No trie. */
export const NO_NODE = 0

const STRIDE = 8
const ENDS = 0
const RESTS = 1
const STAR = 2
const FIRST_SEGMENT = 3
const FIRST_CHILD = 4
const MORE = 5

/** Builds tries. Entries must be added in ascending order. */
export interface TrieBuilder {
  newNode(): number
  newList(): number
  /** Adds an entry to a list that {@link newList} made. */
  addToList(list: number, entry: number): void
  /** Adds an entry under a pattern below a root. */
  addPattern(root: number, pattern: PatternNumbers, entry: number): void
  /** `keeps` says which of the entries that end in one place can ever decide; see `compile.ts`. */
  finish(keeps: (entries: Int32Array) => readonly number[]): FinishedTries
}

export interface FinishedTries {
  readonly tries: Tries
  /** What a list of the builder has become. */
  listOf(list: number): number
}

export function trieBuilder(): TrieBuilder {
  const nodes = growing()
  const edges = edgeTable()
  const postings: Postings = { lists: growing(), entries: growing() }
  let listCount = 1
  let depth = 0

  const newList = () => listCount++
  const newNode = () => {
    for (let field = 0; field < STRIDE; field++) nodes.push(0)
    return nodes.length / STRIDE - 1
  }
  const childIn = (field: number): number => {
    const known = nodes.values[field] ?? NO_NODE
    if (known !== NO_NODE) return known
    const child = newNode()
    nodes.values[field] = child
    return child
  }
  const childOf = (node: number, segment: number): number => {
    const at = node * STRIDE
    if (segment === ANY_SEGMENT) return childIn(at + STAR)
    const first = nodes.values[at + FIRST_SEGMENT] ?? 0
    if (first === 0 || first === segment + 1) {
      nodes.values[at + FIRST_SEGMENT] = segment + 1
      return childIn(at + FIRST_CHILD)
    }
    nodes.values[at + MORE] = 1
    return edges.child(node, segment, newNode)
  }
  const addToList = (list: number, entry: number) => {
    postings.lists.push(list)
    postings.entries.push(entry)
  }
  newNode()

  return {
    newNode,
    newList,
    addToList,
    addPattern(root, { numbers, count, open }, entry) {
      depth = Math.max(depth, count)
      let node = root
      for (let step = 0; step < count; step++) node = childOf(node, numbers[step] ?? ANY_SEGMENT)
      const at = node * STRIDE + (open ? RESTS : ENDS)
      const known = nodes.values[at] ?? EMPTY_LIST
      const list = known === EMPTY_LIST ? newList() : known
      nodes.values[at] = list
      addToList(list, entry)
    },
    finish(keeps) {
      const { lists, starts } = finishLists(postings, { listCount, keeps })
      const finished = nodes.values.slice(0, nodes.length)
      for (let at = 0; at < finished.length; at += STRIDE) {
        finished[at + ENDS] = starts[finished[at + ENDS] ?? 0] ?? EMPTY_LIST
        finished[at + RESTS] = starts[finished[at + RESTS] ?? 0] ?? EMPTY_LIST
      }
      return {
        tries: { nodes: finished, edges: edges.rows(), lists, depth },
        listOf: (list) => starts[list] ?? EMPTY_LIST,
      }
    },
  }
}

/** Everything that walks over the same tries share. */
export interface Walk {
  readonly tries: Tries
  readonly judge: Judge
  readonly path: SplitPath
  /** Nodes still to be seen, each with the depth at which it stands. */
  readonly pending: Int32Array
  /** Nodes seen so far, for tests of what a walk costs. */
  visits: number
}

export const walkOver = (tries: Tries, judge: Judge): Walk => ({
  tries,
  judge,
  path: splitPath(tries.depth),
  // A node puts at most one other aside, which stands one step deeper.
  pending: new Int32Array(2 * (tries.depth + 1)),
  visits: 0,
})

/**
 * The lowest entry below `best` that the walk's path reaches from one of the roots and that lets the
 * query pass, or `best`. Below each root, visits each prefix of a pattern that matches a prefix of the
 * path once.
 */
export function lowestBelow(walk: Walk, roots: readonly number[], best: number): number {
  const { judge, pending } = walk
  const { nodes, edges, lists } = walk.tries
  const { numbers, count } = walk.path
  let found = best
  let visits = 0
  let aside = 0
  for (let node of roots) {
    let depth = 0
    while (node !== NO_NODE) {
      visits++
      const at = node * STRIDE
      const rests = nodes[at + RESTS] ?? EMPTY_LIST
      if ((lists[rests] ?? NO_ENTRY) < found) found = firstPassing(judge, rests, found)

      let next = NO_NODE
      if (depth === count) {
        const ends = nodes[at + ENDS] ?? EMPTY_LIST
        if ((lists[ends] ?? NO_ENTRY) < found) found = firstPassing(judge, ends, found)
      } else {
        const segment = numbers[depth] ?? UNKNOWN
        if (segment !== UNKNOWN) {
          if (nodes[at + FIRST_SEGMENT] === segment + 1) next = nodes[at + FIRST_CHILD] ?? NO_NODE
          else if (nodes[at + MORE] === 1) next = childAt(edges, node, segment)
        }
        const star = nodes[at + STAR] ?? NO_NODE
        if (next === NO_NODE) {
          next = star
        } else if (star !== NO_NODE) {
          pending[aside++] = star
          pending[aside++] = depth + 1
        }
      }
      depth++
      if (next === NO_NODE && aside > 0) {
        depth = pending[--aside] ?? 0
        next = pending[--aside] ?? NO_NODE
      }
      node = next
    }
  }
  walk.visits += visits
  return found
}

const EDGE = 4

/** Spreads neighbouring nodes and segments over the table. */
function edgeHash(node: number, segment: number): number {
  const mixed = Math.imul(node, 0x9e3779b1) ^ Math.imul(segment + 1, 0x85ebca6b)
  return mixed ^ (mixed >>> 15)
}

/** A child that is not the first of its node. */
function childAt(edges: Int32Array, node: number, segment: number): number {
  const mask = edges.length / EDGE - 1
  for (let row = edgeHash(node, segment) & mask; ; row = (row + 1) & mask) {
    const at = row * EDGE
    const found = edges[at] ?? 0
    if (found === NO_NODE) return NO_NODE
    if (found === node && edges[at + 1] === segment) return edges[at + 2] ?? NO_NODE
  }
}

interface EdgeTable {
  /** The child of a node for a segment, made by `make` if there is none. */
  child(node: number, segment: number, make: () => number): number
  rows(): Int32Array
}

function edgeTable(): EdgeTable {
  let rows = new Int32Array(64 * EDGE)
  let used = 0

  const put = (node: number, segment: number, child: number) => {
    const mask = rows.length / EDGE - 1
    let row = edgeHash(node, segment) & mask
    while (rows[row * EDGE] !== NO_NODE) row = (row + 1) & mask
    rows[row * EDGE] = node
    rows[row * EDGE + 1] = segment
    rows[row * EDGE + 2] = child
    used++
  }
  const resize = (size: number) => {
    const old = rows
    rows = new Int32Array(size * EDGE)
    used = 0
    for (let at = 0; at < old.length; at += EDGE) {
      const node = old[at] ?? 0
      if (node !== NO_NODE) put(node, old[at + 1] ?? 0, old[at + 2] ?? 0)
    }
  }
  return {
    child(node, segment, make) {
      const known = childAt(rows, node, segment)
      if (known !== NO_NODE) return known
      // Half full at most, so that a search meets an empty row soon.
      if ((used + 1) * 2 * EDGE > rows.length) resize((rows.length / EDGE) * 2)
      const child = make()
      put(node, segment, child)
      return child
    },
    rows() {
      resize(powerOfTwo((used + 1) * 2))
      return rows
    },
  }
}

interface Postings {
  readonly lists: Growing
  readonly entries: Growing
}

function finishLists(
  postings: Postings,
  options: {
    readonly listCount: number
    readonly keeps: (entries: Int32Array) => readonly number[]
  },
): { readonly lists: Int32Array; readonly starts: Int32Array } {
  const { listCount, keeps } = options
  const grouped = groupByList(postings, listCount)
  const lists = growing()
  const starts = new Int32Array(listCount)
  lists.push(NO_ENTRY)
  for (let list = 1; list < listCount; list++) {
    const entries = grouped.entries.subarray(grouped.starts[list], grouped.starts[list + 1])
    if (entries.length === 0) continue
    starts[list] = lists.length
    for (const entry of keeps(entries)) lists.push(entry)
    lists.push(NO_ENTRY)
  }
  return { lists: lists.values.slice(0, lists.length), starts }
}

/** Counting sort, which keeps the order in which entries were added. */
function groupByList(
  { lists, entries }: Postings,
  listCount: number,
): { readonly entries: Int32Array; readonly starts: Int32Array } {
  const starts = new Int32Array(listCount + 1)
  for (let at = 0; at < lists.length; at++) {
    const next = (lists.values[at] ?? 0) + 1
    starts[next] = (starts[next] ?? 0) + 1
  }
  for (let list = 1; list <= listCount; list++) {
    starts[list] = (starts[list] ?? 0) + (starts[list - 1] ?? 0)
  }
  const ends = starts.slice()
  const grouped = new Int32Array(entries.length)
  for (let at = 0; at < entries.length; at++) {
    const list = lists.values[at] ?? 0
    const place = ends[list] ?? 0
    grouped[place] = entries.values[at] ?? 0
    ends[list] = place + 1
  }
  return { entries: grouped, starts }
}

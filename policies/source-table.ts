import type { SpiffeId } from '../spiffe/index.js'
import { ONE, REST } from './pattern.js'
import { ANY, type Source, segmentsOfSource, UNAUTHENTICATED } from './selectors.js'

/** The sources of a policy under numbers, and which of them a caller is. */
export interface SourceTable {
  keyOf(source: Source): number
  /** Every source that matches a caller; `undefined` is one without a verified SPIFFE ID. */
  keysFor(caller: SpiffeId | undefined): readonly number[]
  readonly size: number
}

/** Sources with wildcards by segment, the trust domain first. */
interface Node {
  readonly children: Map<string, Node>
  star: Node | undefined
  ends: number | undefined
  rests: number | undefined
}

export function sourceTable(): SourceTable {
  const keys = new Map<Source, number>()
  const wild = newNode()
  return {
    keyOf(source) {
      const known = keys.get(source)
      if (known !== undefined) return known
      const key = keys.size
      keys.set(source, key)
      if (source.includes('{')) addPattern(wild, segmentsOfSource(source), key)
      return key
    },
    keysFor(caller) {
      if (caller === undefined)
        return [keys.get(UNAUTHENTICATED)].filter((key) => key !== undefined)
      const found = [keys.get(caller), keys.get(ANY)].filter((key) => key !== undefined)
      collect(wild, { segments: segmentsOfSource(caller), at: 0, found })
      return found
    },
    get size() {
      return keys.size
    },
  }
}

function newNode(): Node {
  return { children: new Map(), star: undefined, ends: undefined, rests: undefined }
}

function addPattern(root: Node, segments: readonly string[], key: number): void {
  let node = root
  for (const segment of segments) {
    if (segment === REST) {
      node.rests = key
      return
    }
    node = segment === ONE ? (node.star ??= newNode()) : childOf(node, segment)
  }
  node.ends = key
}

function childOf({ children }: Node, segment: string): Node {
  const known = children.get(segment)
  if (known !== undefined) return known
  const child = newNode()
  children.set(segment, child)
  return child
}

/** No deeper than the deepest pattern. */
function collect(
  node: Node,
  path: { readonly segments: readonly string[]; readonly at: number; readonly found: number[] },
): void {
  const { segments, at, found } = path
  if (node.rests !== undefined) found.push(node.rests)
  const segment = segments[at]
  if (segment === undefined) {
    if (node.ends !== undefined) found.push(node.ends)
    return
  }
  const child = node.children.get(segment)
  const next = { segments, at: at + 1, found }
  if (child !== undefined) collect(child, next)
  if (node.star !== undefined) collect(node.star, next)
}

import { SpiffeError } from '../errors.js'
import { isConstructed, tags } from './tags.js'

/** One DER element, as offsets into the bytes it was read from: nothing is copied before it is asked for. */
export interface DerElement {
  readonly tag: number
  readonly source: Uint8Array
  readonly start: number
  readonly contentStart: number
  readonly end: number
}

/** Certificates, requests and keys nest about a dozen levels deep. */
const MAX_DEPTH = 32
const MAX_LENGTH_OCTETS = 4

/** For what is not DER. Callers that know what the bytes should have been say so with a code of their own. */
export const malformed = (message: string) => new SpiffeError('CS_DER_MALFORMED', message)

/** Reads exactly one element and nothing after it. Throws `CS_DER_MALFORMED`, as everything here does. */
export function readElement(bytes: Uint8Array): DerElement {
  const element = elementAt(bytes, 0, bytes.length)
  if (element.end !== bytes.length) throw malformed('bytes follow the end of the element')
  return element
}

/** Reads the element that begins at `start` and must end by `limit`. */
export function elementAt(source: Uint8Array, start: number, limit: number): DerElement {
  if (limit - start < 2) throw malformed('element is cut short')
  const tag = source[start] ?? 0
  if (tag === 0) throw malformed('tag is zero')
  if ((tag & 0x1f) === 0x1f) throw malformed('tag number has several octets')

  const first = source[start + 1] ?? 0
  let contentStart = start + 2
  let length = first
  if (first === 0x80) throw malformed('length is indefinite')
  if (first > 0x80) {
    const count = first & 0x7f
    length = longLength(source, { start: contentStart, count, limit })
    contentStart += count
  }
  const end = contentStart + length
  if (end > limit) throw malformed('element is longer than what holds it')
  return { tag, source, start, contentStart, end }
}

/** The elements inside a constructed one, which they fill completely. */
export function children(parent: DerElement): DerElement[] {
  if (!isConstructed(parent.tag)) throw malformed('element is primitive, not constructed')
  const found: DerElement[] = []
  for (let at = parent.contentStart; at < parent.end; ) {
    const child = elementAt(parent.source, at, parent.end)
    found.push(child)
    at = child.end
  }
  return found
}

/** The elements inside a SEQUENCE. */
export function sequenceItems(element: DerElement | undefined): DerElement[] {
  return children(expectTag(element, tags.sequence))
}

/** The single element under an explicit tag. */
export function onlyChild(parent: DerElement): DerElement {
  const [child, ...others] = children(parent)
  if (child === undefined || others.length > 0) throw malformed('tag does not hold one element')
  return child
}

/** Gives back the element if it is there and has the tag. */
export function expectTag(element: DerElement | undefined, tag: number): DerElement {
  if (element === undefined) throw malformed(`element with tag 0x${tag.toString(16)} is missing`)
  if (element.tag !== tag) {
    throw malformed(`tag is 0x${element.tag.toString(16)}, not 0x${tag.toString(16)}`)
  }
  return element
}

/** A view of the whole element, header included. */
export function bytesOf(element: DerElement): Uint8Array {
  return element.source.subarray(element.start, element.end)
}

/** A view of the content, without the header. */
export function contentOf(element: DerElement): Uint8Array {
  return element.source.subarray(element.contentStart, element.end)
}

/**
 * Walks everything inside constructed elements, so that what nobody looks at is DER as well, and no
 * deeper than certificates go.
 */
export function assertDer(element: DerElement, depth = 0): void {
  if (depth > MAX_DEPTH) throw malformed(`elements nest deeper than ${MAX_DEPTH} levels`)
  if (!isConstructed(element.tag)) return
  for (const child of children(element)) assertDer(child, depth + 1)
}

function longLength(
  source: Uint8Array,
  at: { readonly start: number; readonly count: number; readonly limit: number },
): number {
  if (at.count > MAX_LENGTH_OCTETS) throw malformed('length is out of bounds')
  if (at.start + at.count > at.limit) throw malformed('element is cut short')
  let length = 0
  for (let index = at.start; index < at.start + at.count; index += 1) {
    length = length * 256 + (source[index] ?? 0)
  }
  const shortest = length < 0x80 || length < 2 ** (8 * (at.count - 1))
  if (shortest) throw malformed('length is not in its shortest form')
  return length
}

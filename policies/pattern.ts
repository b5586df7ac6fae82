import { canonicalPathOf } from './canonical.js'

/** One segment of a pattern: a literal, exactly one segment, or (only last) zero or more. */
export type PatternSegment = string
export const ONE = '{*}'
export const REST = '{**}'

/** Longer patterns than these are refused: nobody writes them, and a trie would have to hold them. */
export const MAX_PATTERN = 1024
export const MAX_SEGMENTS = 32

/** Why a text is not a pattern, with the nearest text that is one where there is one. */
export interface PatternFault {
  readonly fault: string
  readonly nearest?: string
}

/** `undefined` for a path pattern of the language (section 4 of its reference), else what is wrong. */
export function pathPatternFault(text: string): PatternFault | undefined {
  if (!text.startsWith('/')) return { fault: 'a path starts with a slash', ...nearest(`/${text}`) }
  if (text.length > MAX_PATTERN) return { fault: `a path is at most ${MAX_PATTERN} bytes long` }
  if (/[?#]/.test(text)) {
    return {
      fault: 'query and fragment are never matched',
      ...nearest(text.replace(/[?#].*$/s, '')),
    }
  }
  const segments = segmentsOfPath(text)
  if (segments.length > MAX_SEGMENTS)
    return { fault: `a path has at most ${MAX_SEGMENTS} segments` }
  return wildcardFault(text, segments) ?? literalFault(text)
}

/** `undefined` for `package.Service/Method` or `package.Service/*`, else what is wrong. */
export function grpcPatternFault(text: string): PatternFault | undefined {
  if (text.length > MAX_PATTERN) return { fault: `a method is at most ${MAX_PATTERN} bytes long` }
  if (GRPC.test(text)) return undefined
  const bare = text.replace(/^\//, '').replace(/\/\{\*{1,2}\}$/, '/*')
  if (GRPC.test(bare)) return { fault: NOT_GRPC, nearest: bare }
  if (GRPC.test(`${bare}/*`)) return { fault: NOT_GRPC, nearest: `${bare}/*` }
  return { fault: NOT_GRPC }
}

/** The segments of a path pattern; one trailing slash is no segment. */
export function segmentsOfPath(pattern: string): readonly PatternSegment[] {
  const end = pattern.endsWith('/') ? pattern.length - 1 : pattern.length
  return end <= 0 ? [] : pattern.slice(1, end).split('/')
}

/** The path that a gRPC pattern stands for: `/package.Service/Method`, or `{*}` for any method. */
export function pathOfGrpc(pattern: string): string {
  return `/${pattern.endsWith('/*') ? `${pattern.slice(0, -1)}${ONE}` : pattern}`
}

/**
 * A segment as a lenient backend may read it: printable characters decoded, lower case, without
 * trailing dots and encoded spaces. Empty when nothing else is in it.
 */
export function foldSegment(segment: string): string {
  const plain = segment.includes('%') ? decodePrintable(segment) : segment
  let end = plain.length
  for (;;) {
    if (end > 0 && plain.charCodeAt(end - 1) === 0x2e) end--
    else if (end > 2 && plain.startsWith('%20', end - 3)) end -= 3
    else break
  }
  return plain.slice(0, end).toLowerCase()
}

/** `%40` is `@` to any backend. Encoded, it stays so on the wire, so only a deny may look through it. */
function decodePrintable(segment: string): string {
  return segment.replace(/%(2[1-9A-F]|[3-6][0-9A-F]|7[0-9A-E])/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  )
}

export const isWildcard = (segment: PatternSegment) => segment === ONE || segment === REST

const GRPC = /^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\/([A-Za-z_]\w*|\*)$/
const NOT_GRPC =
  'a gRPC method is package.Service/Method, or package.Service/* for all of a service'

function wildcardFault(text: string, segments: readonly string[]): PatternFault | undefined {
  const early = segments.findIndex((segment) => segment === REST)
  if (early !== -1 && early < segments.length - 1) {
    return { fault: '{**} stands only at the end', ...nearest(legalise(text)) }
  }
  if (segments.some((segment) => !isWildcard(segment) && /[{}*]/.test(segment))) {
    return {
      fault: 'a wildcard is a whole segment: {*} for one, {**} last for zero or more',
      ...nearest(legalise(text)),
    }
  }
  return undefined
}

function literalFault(text: string): PatternFault | undefined {
  const sample = sampleOf(text)
  const spelt = canonicalPathOf(sample)
  if (typeof spelt !== 'string') {
    return { fault: `no request can have this path (${spelt.malformed})` }
  }
  if (spelt === sample) return undefined
  return { fault: 'a path is written in its canonical spelling', ...nearest(legalise(text)) }
}

/** A wildcard stands for any segment, so any segment may stand for it while the literals are checked. */
function sampleOf(pattern: string): string {
  return pattern
    .split('/')
    .map((segment) => (isWildcard(segment) ? 'x' : segment))
    .join('/')
}

/** Offers a pattern only if it is one. */
function nearest(text: string): { readonly nearest?: string } {
  return text.length <= MAX_PATTERN && isPathPattern(text) ? { nearest: text } : {}
}

function isPathPattern(text: string): boolean {
  const segments = segmentsOfPath(text)
  if (!text.startsWith('/') || segments.slice(0, -1).includes(REST)) return false
  if (segments.some((segment) => !isWildcard(segment) && /[{}*?#]/.test(segment))) return false
  return canonicalPathOf(sampleOf(text)) === sampleOf(text)
}

/** What was probably meant: `/api*` is everything under `/api`, `/a/*` and `/a/{id}` one segment. */
function legalise(text: string): string {
  const segments = segmentsOfPath(text)
  const legal = segments.flatMap((segment, at) =>
    legalSegments(segment, { last: at === segments.length - 1 }),
  )
  return spelling(`/${legal.join('/')}`)
}

function legalSegments(segment: string, { last }: { readonly last: boolean }): readonly string[] {
  if (!/[{}*]/.test(segment)) return [segment]
  if (segment === '**' || segment === REST) return [last ? REST : ONE]
  const prefix = /^([^{}*]+)\*+$/.exec(segment)?.[1]
  return last && prefix !== undefined ? [prefix, REST] : [ONE]
}

/** The canonical spelling of everything in a pattern but its wildcards. */
function spelling(pattern: string): string {
  const parts = pattern.split('/').map((segment) => {
    if (segment === '' || isWildcard(segment)) return segment
    const spelt = canonicalPathOf(`/${segment}`)
    return typeof spelt === 'string' ? spelt.slice(1) : segment
  })
  const merged = parts.join('/').replace(/\/{2,}/g, '/')
  return merged === '' ? '/' : merged
}

import { SidecarError } from './errors.js'

/** One hop of an `x-forwarded-client-cert` header: its pairs, in order. */
export type XfccElement = readonly (readonly [key: string, value: string])[]

/** Writes the header. A value that could be mistaken for structure is quoted. */
export function formatXfcc(elements: readonly XfccElement[]): string {
  return elements
    .map((pairs) => pairs.map(([key, value]) => `${key}=${quoted(value)}`).join(';'))
    .join(',')
}

/** Reads the header. Throws `CS_XFCC_MALFORMED`, also for a quote that does not end. */
export function parseXfcc(text: string): readonly XfccElement[] {
  const elements: (readonly [string, string])[][] = [[]]
  let at = 0
  while (at < text.length) {
    const pair = readPair(text, at)
    elements.at(-1)?.push([pair.key, pair.value])
    const separator = text[pair.end]
    if (separator === ',') elements.push([])
    else if (separator !== ';' && separator !== undefined) throw malformed('a value goes on')
    at = pair.end + 1
    if (separator !== undefined && at === text.length) throw malformed('a pair is missing')
  }
  return elements
}

interface Pair {
  readonly key: string
  readonly value: string
  readonly end: number
}

function readPair(text: string, from: number): Pair {
  const equals = text.indexOf('=', from)
  const key = equals === -1 ? '' : text.slice(from, equals)
  if (!/^[A-Za-z]+$/.test(key)) throw malformed('a key is missing')
  return text[equals + 1] === '"'
    ? { key, ...readQuoted(text, equals + 2) }
    : { key, ...readBare(text, equals + 1) }
}

function readBare(text: string, from: number): Omit<Pair, 'key'> {
  const end = text.slice(from).search(/[,;]/)
  const stop = end === -1 ? text.length : from + end
  const value = text.slice(from, stop)
  if (/["=]/.test(value)) throw malformed('a value is not quoted')
  return { value, end: stop }
}

function readQuoted(text: string, from: number): Omit<Pair, 'key'> {
  let value = ''
  for (let at = from; at < text.length; at += 1) {
    if (text[at] === '"') return { value, end: at + 1 }
    if (text[at] === '\\') at += 1
    value += text[at] ?? ''
  }
  throw malformed('a quote does not end')
}

function quoted(value: string): string {
  return /[,;="\\]/.test(value) ? `"${value.replaceAll(/["\\]/g, (mark) => `\\${mark}`)}"` : value
}

const malformed = (why: string) => new SidecarError('CS_XFCC_MALFORMED', `xfcc: ${why}`)

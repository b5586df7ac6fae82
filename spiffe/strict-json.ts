import { SpiffeError, type SpiffeErrorCode } from './errors.js'

export type JsonValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | readonly JsonValue[]
  | JsonObject

export interface JsonObject {
  readonly [name: string]: JsonValue | undefined
}

export interface JsonOptions {
  /** The code of whatever is wrong. */
  readonly code: SpiffeErrorCode
  readonly maxBytes: number
  /** `exact` gives a bigint for an integer beyond 2^53 of up to 64 digits; `number` rounds it as `JSON.parse` does. */
  readonly integers: 'exact' | 'number'
}

const MAX_DEPTH = 32
/** Nothing counts so far, and to make a bigint of millions of digits takes seconds. */
const MAX_EXACT_DIGITS = 64

/**
 * Reads JSON (RFC 8259) that is not to be read in two ways: UTF-8 without errors, no member name twice,
 * no integer changed, bounded in size and depth.
 */
export function readJson(bytes: Uint8Array, options: JsonOptions): JsonValue {
  if (bytes.length > options.maxBytes) {
    throw new SpiffeError(options.code, `JSON is longer than ${options.maxBytes} bytes`)
  }
  const reader: Reader = { text: decode(bytes, options.code), at: 0, ...options }
  const value = readValue(reader, 0)
  skipBlanks(reader)
  if (reader.at < reader.text.length) throw fault(reader, 'text follows the value')
  return value
}

export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

interface Reader extends JsonOptions {
  readonly text: string
  at: number
}

const BLANKS = /[ \t\n\r]*/y
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y
/** Up to the closing quote. What the escapes mean is left to `JSON.parse`, which knows. */
const STRING = /"(?:[^"\\]|\\.)*"/y

const words: Readonly<Record<string, readonly [string, JsonValue]>> = {
  t: ['true', true],
  f: ['false', false],
  n: ['null', null],
}

function readValue(reader: Reader, depth: number): JsonValue {
  if (depth > MAX_DEPTH) throw fault(reader, `values nest deeper than ${MAX_DEPTH} levels`)
  skipBlanks(reader)
  const first = reader.text[reader.at] ?? ''
  if (first === '{') return readObject(reader, depth)
  if (first === '[') return readArray(reader, depth)
  if (first === '"') return readString(reader)
  const [word, value] = words[first] ?? []
  if (word === undefined || value === undefined) return readNumber(reader)
  if (!reader.text.startsWith(word, reader.at)) throw fault(reader, 'value is not JSON')
  reader.at += word.length
  return value
}

function readObject(reader: Reader, depth: number): JsonObject {
  const members = new Map<string, JsonValue>()
  reader.at += 1
  if (takes(reader, '}')) return {}
  do {
    skipBlanks(reader)
    const name = readString(reader)
    if (members.has(name)) throw fault(reader, `member ${JSON.stringify(name)} occurs twice`)
    if (!takes(reader, ':')) throw fault(reader, 'colon is missing')
    members.set(name, readValue(reader, depth + 1))
  } while (takes(reader, ','))
  if (!takes(reader, '}')) throw fault(reader, 'object is not closed')
  return Object.fromEntries(members)
}

function readArray(reader: Reader, depth: number): JsonValue[] {
  const items: JsonValue[] = []
  reader.at += 1
  if (takes(reader, ']')) return items
  do {
    items.push(readValue(reader, depth + 1))
  } while (takes(reader, ','))
  if (!takes(reader, ']')) throw fault(reader, 'array is not closed')
  return items
}

function readString(reader: Reader): string {
  const [literal] = match(reader, STRING) ?? []
  if (literal === undefined) throw fault(reader, 'text in quotes is missing or not closed')
  try {
    return JSON.parse(literal) as string
  } catch {
    throw fault(reader, 'text in quotes holds a character or escape that JSON does not allow')
  }
}

function readNumber(reader: Reader): number | bigint {
  const [literal, fraction, exponent] = match(reader, NUMBER) ?? []
  if (literal === undefined) throw fault(reader, 'value is not JSON')
  const value = Number(literal)
  const whole = fraction === undefined && exponent === undefined
  if (!whole || reader.integers === 'number' || Number.isSafeInteger(value)) return value
  return literal.length > MAX_EXACT_DIGITS ? value : BigInt(literal)
}

function takes(reader: Reader, character: string): boolean {
  skipBlanks(reader)
  if (reader.text[reader.at] !== character) return false
  reader.at += 1
  return true
}

function skipBlanks(reader: Reader): void {
  match(reader, BLANKS)
}

function match(reader: Reader, pattern: RegExp): RegExpExecArray | null {
  pattern.lastIndex = reader.at
  const found = pattern.exec(reader.text)
  if (found) reader.at = pattern.lastIndex
  return found
}

/** Neither repairs broken UTF-8 nor drops a byte order mark, which then is no JSON. */
function decode(bytes: Uint8Array, code: SpiffeErrorCode): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw new SpiffeError(code, 'text is not UTF-8')
  }
}

function fault({ code, at }: Reader, message: string): SpiffeError {
  return new SpiffeError(code, `${message} (at character ${at})`)
}

/** Why a target is refused, in the order of the steps. */
export type MalformedPath =
  | 'bad_byte'
  | 'fragment'
  | 'backslash'
  | 'bad_escape'
  | 'encoded_control'
  | 'encoded_slash'
  | 'encoded_delimiter'
  | 'double_encoding'
  | 'path_parameter'
  | 'dot_segment'

export interface SpeltPath {
  readonly path: string
  /** With its question mark. */
  readonly query: string
}

/** Steps 2 to 12 of the profile, for a target that starts with a slash. */
export function spellPath(target: string): SpeltPath | MalformedPath {
  const plain = plainPathEnd(target)
  if (plain === target.length) return { path: target, query: '' }
  if (plain === NOT_PLAIN) return respell(target)
  return { path: target.slice(0, plain), query: target.slice(plain) }
}

const HASH = 0x23
const PERCENT = 0x25
const DOT = 0x2e
const SLASH = 0x2f
const QUESTION = 0x3f
const BACKSLASH = 0x5c

/** Characters of a path that need no further look. */
const PLAIN = characterTable(
  'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~!$&\'()*+,=:@"<>[]^`{|}',
)
const NOT_PLAIN = -1

/**
 * One look at a target that is canonical as it stands: where its path ends, or `NOT_PLAIN` as soon
 * as anything is met that one of the steps is about. Almost every request ends here.
 */
function plainPathEnd(target: string): number {
  const { length } = target
  let segment = 1
  let dots = 0
  for (let at = 1; at < length; at++) {
    const code = target.charCodeAt(at)
    if (code > 126) return NOT_PLAIN
    if (PLAIN[code] === 1) continue
    if (code === DOT) {
      dots++
    } else if (code === SLASH) {
      if (isDots(at - segment, dots) || at === segment) return NOT_PLAIN
      segment = at + 1
      dots = 0
    } else if (code === QUESTION) {
      return isDots(at - segment, dots) || !isPlainQuery(target, at) ? NOT_PLAIN : at
    } else {
      return NOT_PLAIN
    }
  }
  return isDots(length - segment, dots) ? NOT_PLAIN : length
}

const isDots = (length: number, dots: number) => dots === length && (dots === 1 || dots === 2)

function isPlainQuery(target: string, start: number): boolean {
  for (let at = start; at < target.length; at++) {
    const code = target.charCodeAt(at)
    if (code < 0x21 || code > 0x7e || code === HASH || code === BACKSLASH) return false
  }
  return true
}

/** Steps 2 to 12 for a target in which there is something to refuse or to respell. */
function respell(target: string): SpeltPath | MalformedPath {
  const refused = refusedCharacter(target)
  if (refused !== undefined) return refused

  const question = target.indexOf('?')
  const raw = question === -1 ? target : target.slice(0, question)
  const badEscape = refusedEscape(raw)
  if (badEscape !== undefined) return badEscape

  const path = spelling(raw)
  // Decoding a digit may have completed an escape of an escape: %25%34%31 is %2541 now.
  if (hasDoubleEncoding(path)) return 'double_encoding'
  if (hasParameter(path)) return 'path_parameter'
  if (hasDotSegment(path)) return 'dot_segment'
  return { path, query: question === -1 ? '' : target.slice(question) }
}

/** Steps 2 and 3. */
function refusedCharacter(target: string): MalformedPath | undefined {
  let found: MalformedPath | undefined
  for (let at = 0; at < target.length; at++) {
    const code = target.charCodeAt(at)
    if (code < 0x21 || code > 0x7e) return 'bad_byte'
    if (code === HASH) found = 'fragment'
    else if (code === BACKSLASH) found ??= 'backslash'
  }
  return found
}

/** What steps 6 to 8 refuse, in their order. */
const REFUSED_ESCAPES = [
  'encoded_control',
  'encoded_slash',
  'encoded_delimiter',
  'double_encoding',
] as const
const NONE_REFUSED = REFUSED_ESCAPES.length

/** Steps 5 to 8. */
function refusedEscape(path: string): MalformedPath | undefined {
  let worst: number = NONE_REFUSED
  for (let at = path.indexOf('%'); at !== -1; at = path.indexOf('%', at + 3)) {
    const value = escapeAt(path, at)
    if (value === -1) return 'bad_escape'
    worst = Math.min(worst, refusalOf(value, path, at))
  }
  return REFUSED_ESCAPES[worst]
}

/** The index in {@link REFUSED_ESCAPES} of what one escape is refused for. */
function refusalOf(value: number, path: string, at: number): number {
  if (value < 0x20 || value === 0x7f) return 0
  if (value === SLASH || value === BACKSLASH) return 1
  if (value === QUESTION || value === HASH) return 2
  return value === PERCENT && isHexPair(path, at + 3) ? 3 : NONE_REFUSED
}

/** Where respelt paths are put together; larger ones get a place of their own. */
const SCRATCH = Buffer.alloc(8192)

/** Steps 9 and 10: decodes unreserved characters, writes the hex of the rest in capitals, merges slashes. */
function spelling(path: string): string {
  const out = path.length <= SCRATCH.length ? SCRATCH : Buffer.alloc(path.length)
  let length = 0
  for (let at = 0; at < path.length; at++) {
    const code = path.charCodeAt(at)
    if (code === SLASH && length > 0 && out[length - 1] === SLASH) continue
    if (code !== PERCENT) {
      out[length++] = code
      continue
    }
    const value = escapeAt(path, at)
    if (isUnreserved(value)) {
      out[length++] = value
    } else {
      out[length++] = PERCENT
      out[length++] = HEX.charCodeAt(value >> 4)
      out[length++] = HEX.charCodeAt(value & 15)
    }
    at += 2
  }
  return out.toString('latin1', 0, length)
}

const HEX = '0123456789ABCDEF'

function hasDoubleEncoding(path: string): boolean {
  for (let at = path.indexOf('%25'); at !== -1; at = path.indexOf('%25', at + 3)) {
    if (isHexPair(path, at + 3)) return true
  }
  return false
}

/** Step 11. */
const hasParameter = (path: string) => path.includes(';') || path.includes('%3B')

/** Step 12. */
function hasDotSegment(path: string): boolean {
  for (let start = 1; ; ) {
    const slash = path.indexOf('/', start)
    const end = slash === -1 ? path.length : slash
    if (end - start <= 2 && isOnlyDots(path, start, end)) return true
    if (slash === -1) return false
    start = slash + 1
  }
}

function isOnlyDots(path: string, start: number, end: number): boolean {
  if (end === start) return false
  for (let at = start; at < end; at++) if (path.charCodeAt(at) !== DOT) return false
  return true
}

/** The value of the escape at a `%`, or -1 when two hex digits do not follow. */
function escapeAt(path: string, at: number): number {
  if (!isHexPair(path, at + 1)) return -1
  return hexValue(path.charCodeAt(at + 1)) * 16 + hexValue(path.charCodeAt(at + 2))
}

const isHexPair = (path: string, at: number) =>
  hexValue(path.charCodeAt(at)) !== -1 && hexValue(path.charCodeAt(at + 1)) !== -1

function hexValue(code: number): number {
  if (isDigit(code)) return code - 0x30
  const upper = code & ~0x20
  return upper >= 0x41 && upper <= 0x46 ? upper - 0x37 : -1
}

const isDigit = (code: number) => code >= 0x30 && code <= 0x39

const isUnreserved = (code: number) => UNRESERVED[code] === 1

/** Which characters a set holds, by code below 256. */
export function characterTable(characters: string): Uint8Array {
  const table = new Uint8Array(256)
  for (let at = 0; at < characters.length; at++) table[characters.charCodeAt(at)] = 1
  return table
}

const UNRESERVED = characterTable(
  'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~',
)

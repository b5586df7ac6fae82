declare const canonical: unique symbol

/** Why a request is refused before any policy is asked; the step of the profile that failed. */
export type MalformedCode =
  | 'not_origin_form'
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
  | 'bad_method'
  | 'host_conflict'

/** An HTTP request as it arrived. */
export interface RawRequest {
  readonly method: string
  /** The request target of HTTP/1.1, `:path` of HTTP/2. */
  readonly target: string
  /** Every value of every Host header, one element for each header line. */
  readonly hosts?: readonly string[]
  /** `:authority` of HTTP/2. */
  readonly authority?: string
}

/** The one spelling of a request: what is decided on *and* forwarded. Made only by {@link canonicalise}. */
export interface CanonicalRequest {
  readonly [canonical]: true
  readonly kind: 'http'
  readonly method: string
  /** Lower case, without port and trailing dot; empty when the request names no host. */
  readonly host: string
  /** Starts with a slash, or is `*` for OPTIONS. */
  readonly path: string
  /** As it was sent, with its question mark; empty without one. Never matched. */
  readonly query: string
}

export interface Malformed {
  readonly malformed: MalformedCode
}

/** Profile `strict`. Idempotent, and linear in the length of what it is given. */
export function canonicalise(raw: RawRequest): CanonicalRequest | Malformed {
  const { method } = raw
  if (!isMethod(method)) return refuse('bad_method')
  const named = namedHost(raw)
  if (named === undefined) return refuse('host_conflict')

  const target = originForm(raw.target, method, named)
  if (target === undefined) return refuse('not_origin_form')
  const host = normaliseHost(named)
  if (target === '*') return request({ method, host, path: '*', query: '' })

  const plain = plainPathEnd(target)
  if (plain === target.length) return request({ method, host, path: target, query: '' })
  if (plain !== NOT_PLAIN) {
    return request({ method, host, path: target.slice(0, plain), query: target.slice(plain) })
  }
  return respell(target, { method, host })
}

/** Whether a path is already the one spelling; what a literal of a pattern must be. */
export function canonicalPathOf(path: string): string | Malformed {
  const spelt = canonicalise({ method: 'GET', target: path })
  if ('malformed' in spelt) return spelt
  return spelt.path
}

/** An upper-case token (RFC 9110 §5.6.2) that starts with a letter. */
export function isMethod(text: string): boolean {
  const first = text.charCodeAt(0)
  if (!(first >= 65 && first <= 90)) return false
  for (let at = 1; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code > 126 || METHOD_CHARACTERS[code] !== 1) return false
  }
  return true
}

/** Lower case, without port and without one trailing dot. */
export function normaliseHost(host: string): string {
  const lower = host.toLowerCase()
  const end = portStart(lower)
  const bare = end === -1 ? lower : lower.slice(0, end)
  return bare.endsWith('.') ? bare.slice(0, -1) : bare
}

const METHOD_CHARACTERS = tableOf("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~")

const HASH = 0x23
const PERCENT = 0x25
const DOT = 0x2e
const SLASH = 0x2f
const QUESTION = 0x3f
const BACKSLASH = 0x5c

/** Characters of a path that need no further look. */
const PLAIN = tableOf(
  'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~!$&\'()*+,=:@"<>[]^`{|}',
)
const NOT_PLAIN = -1

const refuse = (malformed: MalformedCode): Malformed => ({ malformed })

function request(parts: {
  readonly method: string
  readonly host: string
  readonly path: string
  readonly query: string
}): CanonicalRequest {
  const { method, host, path, query } = parts
  return { kind: 'http', method, host, path, query } as CanonicalRequest
}

/** The host that the request names, `''` for none, `undefined` when it names two. */
function namedHost({ hosts = [], authority }: RawRequest): string | undefined {
  if (hosts.length > 1) return undefined
  const [host] = hosts
  if (authority === undefined) return host ?? ''
  if (host !== undefined && !sameAuthority(host, authority)) return undefined
  return authority
}

function sameAuthority(left: string, right: string): boolean {
  return withPort(left) === withPort(right)
}

function withPort(authority: string): string {
  const lower = authority.toLowerCase()
  const start = portStart(lower)
  return normaliseHost(lower) + (start === -1 ? '' : lower.slice(start))
}

/** Where `:port` starts, or -1. */
function portStart(host: string): number {
  let at = host.length - 1
  while (at >= 0 && isDigit(host.charCodeAt(at))) at--
  return at < host.length - 1 && host.charCodeAt(at) === 0x3a ? at : -1
}

/** Step 1: the target in origin-form, or `*`, or `undefined`. */
function originForm(target: string, method: string, host: string): string | undefined {
  if (target.charCodeAt(0) === SLASH) return target
  if (target === '*') return method === 'OPTIONS' ? target : undefined
  return reduceAbsolute(target, host)
}

/** An absolute-form target is read only if it names the host that the request names anyway. */
function reduceAbsolute(target: string, host: string): string | undefined {
  const scheme = /^https?:\/\//i.exec(target.slice(0, 8))
  if (scheme === null || host === '') return undefined
  const start = scheme[0].length
  let end = start
  while (end < target.length && !isAuthorityEnd(target.charCodeAt(end))) end++
  if (!sameAuthority(target.slice(start, end), host)) return undefined
  const rest = target.slice(end)
  return rest.charCodeAt(0) === SLASH ? rest : `/${rest}`
}

const isAuthorityEnd = (code: number) =>
  code === SLASH || code === QUESTION || code === HASH || code === BACKSLASH

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
function respell(
  target: string,
  { method, host }: { readonly method: string; readonly host: string },
): CanonicalRequest | Malformed {
  const refused = refusedCharacter(target)
  if (refused !== undefined) return refuse(refused)

  const question = target.indexOf('?')
  const raw = question === -1 ? target : target.slice(0, question)
  const badEscape = refusedEscape(raw)
  if (badEscape !== undefined) return refuse(badEscape)

  const path = spelling(raw)
  // Decoding a digit may have completed an escape of an escape: %25%34%31 is %2541 now.
  if (hasDoubleEncoding(path)) return refuse('double_encoding')
  if (hasParameter(path)) return refuse('path_parameter')
  if (hasDotSegment(path)) return refuse('dot_segment')
  return request({ method, host, path, query: question === -1 ? '' : target.slice(question) })
}

/** Steps 2 and 3. */
function refusedCharacter(target: string): MalformedCode | undefined {
  let found: MalformedCode | undefined
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
function refusedEscape(path: string): MalformedCode | undefined {
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

function tableOf(characters: string): Uint8Array {
  const table = new Uint8Array(256)
  for (let at = 0; at < characters.length; at++) table[characters.charCodeAt(at)] = 1
  return table
}

const UNRESERVED = tableOf('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~')

import { characterTable, type MalformedPath, spellPath } from './canonical-path.js'
import { normaliseHost, sameAuthority } from './host.js'

declare const canonical: unique symbol

/** Why a request is refused before any policy is asked; the step of the profile that failed. */
export type MalformedCode = MalformedPath | 'not_origin_form' | 'bad_method' | 'host_conflict'

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
  if (!isMethod(method)) return { malformed: 'bad_method' }
  const named = namedHost(raw)
  if (named === undefined) return { malformed: 'host_conflict' }

  const target = originForm(raw, named)
  if (target === undefined) return { malformed: 'not_origin_form' }
  const spelt = target === '*' ? ASTERISK : spellPath(target)
  if (typeof spelt === 'string') return { malformed: spelt }
  const { path, query } = spelt
  const host = normaliseHost(named)
  return { kind: 'http', method, host, path, query } as CanonicalRequest
}

/** The one spelling of a path, or why it has none; what a literal of a pattern must be. */
export function canonicalPathOf(path: string): string | Malformed {
  const spelt = canonicalise({ method: 'GET', target: path })
  return 'malformed' in spelt ? spelt : spelt.path
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

const METHOD_CHARACTERS = characterTable("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~")

/** No path rule can match it. */
const ASTERISK = { path: '*', query: '' }

/** The host that the request names, `''` for none, `undefined` when it names two. */
function namedHost({ hosts = [], authority }: RawRequest): string | undefined {
  if (hosts.length > 1) return undefined
  const [host] = hosts
  if (authority === undefined) return host ?? ''
  if (host !== undefined && !sameAuthority(host, authority)) return undefined
  return authority
}

/** Step 1: the target in origin-form, or `*`, or `undefined`. */
function originForm({ target, method }: RawRequest, host: string): string | undefined {
  if (target.startsWith('/')) return target
  if (target === '*') return method === 'OPTIONS' ? target : undefined
  return reduceAbsolute(target, host)
}

/** An absolute-form target is read only if it names the host that the request names anyway. */
function reduceAbsolute(target: string, host: string): string | undefined {
  const scheme = /^https?:\/\//i.exec(target.slice(0, 8))
  if (scheme === null || host === '') return undefined
  const start = scheme[0].length
  const length = target.slice(start).search(/[/?#\\]/)
  const end = length === -1 ? target.length : start + length
  if (!sameAuthority(target.slice(start, end), host)) return undefined
  const rest = target.slice(end)
  return rest.startsWith('/') ? rest : `/${rest}`
}

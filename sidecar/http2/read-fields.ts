import type { BodyLength, Headers, RequestHead, ResponseHead } from '../exchange.js'
import { COLON, isHeaderValue, SPACE, TAB } from '../http1/characters.js'
import { readLength } from '../http1/framing.js'
import type { WireFault } from '../http1/wire-fault.js'
import type { MessageLimits } from '../limits.js'

/** Names and values by turns, as they came: in this form Node has joined and dropped none of them. */
export type RawFields = readonly string[]

export interface Http2Request extends RequestHead {
  readonly expectsContinue: boolean
}

interface Fields {
  readonly pseudo: Map<string, string>
  readonly headers: string[]
  readonly hosts: string[]
  readonly cookies: string[]
  readonly lengths: string[]
  expect: string | undefined
}

const NO_NAMES: ReadonlySet<string> = new Set()

/** These describe a connection, which HTTP/2 knows none of (RFC 9113 §8.2.2). */
const OF_CONNECTIONS: ReadonlySet<string> = new Set([
  'connection',
  'http2-settings',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
])

/** Reads the fields of a request. That names are tokens in lower case, the HTTP/2 layer has seen to. */
export function readRequest(
  raw: RawFields,
  { limits, ends }: { readonly limits: MessageLimits; readonly ends: boolean },
): Http2Request | WireFault {
  const fields = sortFields(raw, limits)
  if (typeof fields === 'string') return fields
  const { pseudo, hosts, headers, expect } = fields
  const target = pseudo.get(':path') ?? ''
  if (target.length > limits.targetBytes) return 'target_too_long'
  if (!isWebScheme(pseudo.get(':scheme'))) return 'bad_request_line'
  const authority = pseudo.get(':authority')
  if (authority === undefined && hosts.length === 0) return 'bad_host'
  if (expect !== undefined && expect.toLowerCase() !== '100-continue') return 'bad_expectation'
  const body = lengthOf(fields, ends)
  if (body === undefined) return 'bad_framing'
  if (typeof body === 'number' && body > (limits.bodyBytes ?? Infinity)) return 'body_too_large'
  return {
    method: pseudo.get(':method') ?? '',
    target,
    hosts,
    authority,
    headers,
    connectionNames: NO_NAMES,
    body,
    upgrade: false,
    expectsContinue: expect !== undefined,
  }
}

/** Reads the fields of a response, also of one with a status of 1xx. */
export function readResponse(
  raw: RawFields,
  { limits, ends }: { readonly limits: MessageLimits; readonly ends: boolean },
): ResponseHead | WireFault {
  const fields = sortFields(raw, limits)
  if (typeof fields === 'string') return fields
  const status = fields.pseudo.get(':status') ?? ''
  if (!/^[1-5][0-9][0-9]$/.test(status)) return 'bad_status_line'
  const [length] = fields.lengths
  const body = length === undefined ? openLength(ends) : readLength(length)
  if (body === undefined || fields.lengths.length > 1) return 'bad_framing'
  return { status: Number(status), reason: '', headers: fields.headers, body }
}

/** The fields after the body. */
export function readTrailers(raw: RawFields, limits: MessageLimits): Headers {
  const fields = sortFields(raw, limits)
  return typeof fields === 'string' ? [] : fields.headers
}

function sortFields(raw: RawFields, limits: MessageLimits): Fields | WireFault {
  const fields: Fields = {
    pseudo: new Map(),
    headers: [],
    hosts: [],
    cookies: [],
    lengths: [],
    expect: undefined,
  }
  if (raw.length > limits.headers * 2) return 'too_many_headers'
  for (let at = 0; at < raw.length; at += 2) {
    const fault = sortField(fields, raw[at] ?? '', trimmed(raw[at + 1] ?? ''))
    if (fault) return fault
  }
  // A browser may send its cookie in pieces; elsewhere they are one (RFC 9113 §8.2.3).
  if (fields.cookies.length > 0) fields.headers.push('cookie', fields.cookies.join('; '))
  return fields
}

function sortField(fields: Fields, name: string, value: string): WireFault | undefined {
  if (!isHeaderValue(value)) return 'bad_header'
  if (name.charCodeAt(0) === COLON) {
    if (fields.pseudo.has(name)) return 'bad_header'
    fields.pseudo.set(name, value)
    return undefined
  }
  if (OF_CONNECTIONS.has(name)) return 'bad_header'
  switch (name) {
    case 'host':
      fields.hosts.push(value)
      break
    case 'cookie':
      fields.cookies.push(value)
      break
    case 'content-length':
      fields.lengths.push(value)
      break
    case 'expect':
      fields.expect = value
      break
    case 'te':
      if (value.toLowerCase() !== 'trailers') return 'bad_header'
      fields.headers.push(name, 'trailers')
      break
    default:
      fields.headers.push(name, value)
  }
  return undefined
}

function trimmed(value: string): string {
  return isBlank(value.charCodeAt(0)) || isBlank(value.charCodeAt(value.length - 1))
    ? value.trim()
    : value
}

const isBlank = (code: number) => code === SPACE || code === TAB

function lengthOf({ lengths }: Fields, ends: boolean): BodyLength | undefined {
  const [length] = lengths
  if (lengths.length > 1) return undefined
  if (length === undefined) return openLength(ends)
  const read = readLength(length)
  return ends && read !== 0 ? undefined : read
}

const openLength = (ends: boolean): BodyLength => (ends ? 'none' : 'streamed')

const isWebScheme = (scheme: string | undefined) => /^https?$/i.test(scheme ?? '')

import type { BodyLength } from '../exchange.js'
import type { HeaderVisitor } from './header-section.js'

/** Sorts the header lines of one head into what concerns the connection and what is passed on. */
export class Framing {
  readonly hosts: string[] = []
  readonly headers: string[] = []
  contentLength: string | undefined
  transferEncoding: string | undefined
  /** All `Connection` lines, joined by commas. */
  connection: string | undefined
  upgrade: string | undefined
  expect: string | undefined
  keepAlive: string | undefined
  /** A header that may occur once occurs twice. */
  repeated = false

  readonly visit: HeaderVisitor = (name, value) => {
    const sort = SORTS.get(name)
    if (sort === undefined) this.headers.push(name, value)
    else sort(this, value)
    return undefined
  }
}

const LONGEST_LENGTH = 15

/** RFC 9112 §6.3, without its leniencies. `undefined` when the head does not say one length. */
export function bodyLengthOf(framing: Framing, minor: 0 | 1): BodyLength | undefined {
  const { contentLength, transferEncoding, repeated } = framing
  if (repeated) return undefined
  if (transferEncoding !== undefined) {
    const alone = contentLength === undefined && minor === 1
    return alone && transferEncoding.toLowerCase() === 'chunked' ? 'streamed' : undefined
  }
  return contentLength === undefined ? 'none' : readLength(contentLength)
}

/** The lower-case names in the value of a `Connection` header. */
export function listedNames(value: string): ReadonlySet<string> {
  const lower = value.toLowerCase()
  const known = usualLists.get(lower)
  if (known) return known
  return new Set(
    lower
      .split(',')
      .map((name) => name.trim())
      .filter((name) => name !== ''),
  )
}

const usualLists = new Map(
  ['keep-alive', 'close', 'upgrade'].map((name) => [name, new Set([name])] as const),
)

export function readLength(text: string): number | undefined {
  if (text.length > LONGEST_LENGTH || !/^[0-9]+$/.test(text)) return undefined
  return Number(text)
}

type Sort = (framing: Framing, value: string) => void

const dropped: Sort = () => {}

/** Everything else is passed on. */
const SORTS: ReadonlyMap<string, Sort> = new Map<string, Sort>([
  ['host', (framing, value) => void framing.hosts.push(value)],
  [
    'content-length',
    (framing, value) => {
      framing.repeated ||= framing.contentLength !== undefined
      framing.contentLength = value
    },
  ],
  [
    'transfer-encoding',
    (framing, value) => {
      framing.repeated ||= framing.transferEncoding !== undefined
      framing.transferEncoding = value
    },
  ],
  [
    'connection',
    (framing, value) => {
      framing.connection =
        framing.connection === undefined ? value : `${framing.connection},${value}`
    },
  ],
  [
    'upgrade',
    (framing, value) => {
      framing.upgrade = framing.upgrade === undefined ? value : `${framing.upgrade},${value}`
    },
  ],
  [
    'expect',
    (framing, value) => {
      framing.expect = framing.expect === undefined ? value : `${framing.expect},${value}`
    },
  ],
  [
    'keep-alive',
    (framing, value) => {
      framing.keepAlive = value
    },
  ],
  ['proxy-connection', dropped],
  ['http2-settings', dropped],
  ['te', dropped],
])

import type { ResponseHead } from '../exchange.js'
import type { MessageLimits } from '../limits.js'
import { isHeaderValue, SPACE, ZERO } from './characters.js'
import { bodyLengthOf, Framing, listedNames } from './framing.js'
import { readHeaders } from './header-section.js'
import { minorVersion } from './request-head.js'
import type { WireFault } from './wire-fault.js'

export interface Http1Response extends ResponseHead {
  readonly keepAlive: boolean
  /** How long the app keeps an unused connection, when it says so. */
  readonly keepAliveSeconds: number | undefined
  /** Whether bytes of a body follow: not after HEAD, and not with 1xx, 204 and 304. */
  readonly bodyFollows: boolean
  /** Only the end of the connection ends the body. */
  readonly untilClose: boolean
}

/** `HTTP/1.x nnn`, behind which stands nothing or a blank and the reason. */
const STATUS_LENGTH = 'HTTP/1.1 200'.length

/** Reads the head of an answer to `method`, up to and including the line end of its last header line. */
export function readResponseHead(
  text: string,
  { method, limits }: { readonly method: string; readonly limits: MessageLimits },
): Http1Response | WireFault {
  const lineEnd = text.indexOf('\r\n')
  const status = statusOf(text)
  const minor = minorVersion(text, 0)
  const reason = text.slice(STATUS_LENGTH + 1, lineEnd)
  const blank = lineEnd === STATUS_LENGTH || text.charCodeAt(STATUS_LENGTH) === SPACE
  if (!blank || status === undefined || minor === undefined) return 'bad_status_line'
  if (!isHeaderValue(reason)) return 'bad_status_line'

  const framing = new Framing()
  const from = lineEnd + 2
  const fault = readHeaders({ text, from, maxCount: limits.headers }, framing.visit)
  if (fault) return fault
  return settle({ status, reason, minor, method, framing })
}

/** Three digits from 100 to 599 behind the version. */
function statusOf(text: string): number | undefined {
  let status = 0
  for (let at = STATUS_LENGTH - 3; at < STATUS_LENGTH; at += 1) {
    const digit = text.charCodeAt(at) - ZERO
    if (!(digit >= 0 && digit <= 9)) return undefined
    status = status * 10 + digit
  }
  const blank = text.charCodeAt(STATUS_LENGTH - 4) === SPACE
  return blank && status >= 100 && status < 600 ? status : undefined
}

function settle(read: {
  readonly status: number
  readonly reason: string
  readonly minor: 0 | 1
  readonly method: string
  readonly framing: Framing
}): Http1Response | WireFault {
  const { status, reason, minor, method, framing } = read
  const length = bodyLengthOf(framing, minor)
  if (length === undefined) return 'bad_framing'
  const bodyFollows = method !== 'HEAD' && status >= 200 && status !== 204 && status !== 304
  // Without a length only the end of the connection tells the end of the body.
  const untilClose = bodyFollows && length === 'none'
  const names = framing.connection === undefined ? undefined : listedNames(framing.connection)
  return {
    status,
    reason,
    headers: names ? withoutListed(framing.headers, names) : framing.headers,
    body: untilClose ? 'streamed' : length,
    bodyFollows: bodyFollows && length !== 0,
    untilClose,
    keepAlive: !untilClose && minor === 1 && !names?.has('close'),
    keepAliveSeconds: keepAliveSeconds(framing.keepAlive),
  }
}

function keepAliveSeconds(value: string | undefined): number | undefined {
  const match = value === undefined ? null : /(?:^|[,\s])timeout=(\d{1,6})(?:$|[,\s])/.exec(value)
  return match ? Number(match[1]) : undefined
}

function withoutListed(headers: readonly string[], names: ReadonlySet<string>): readonly string[] {
  return headers.filter((_, at) => !names.has(headers[at - (at % 2)] ?? ''))
}

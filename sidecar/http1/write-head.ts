import type { ForwardedHead, Headers, ResponseHead } from '../exchange.js'

/** The bytes of a request head, one per character. */
export function requestHeadText(head: ForwardedHead): string {
  const { method, target, host, headers, body, upgrade } = head
  let text = `${method} ${target} HTTP/1.1\r\nhost: ${host}\r\n`
  for (let at = 0; at < headers.length; at += 2) {
    // Of HTTP/2 only; here it would speak of this connection.
    if (headers[at] !== 'te') text += `${headers[at]}: ${headers[at + 1]}\r\n`
  }
  if (body === 'streamed') text += 'transfer-encoding: chunked\r\n'
  else if (body !== 'none') text += `content-length: ${body}\r\n`
  if (upgrade) text += 'connection: upgrade\r\nupgrade: websocket\r\n'
  return `${text}\r\n`
}

export interface ResponseFraming {
  /** How the body is told from what follows it. */
  readonly body: 'length' | 'chunked' | 'close' | 'none'
  readonly close: boolean
}

/** The bytes of a response head, one per character. */
export function responseHeadText(head: ResponseHead, { body, close }: ResponseFraming): string {
  const { status, reason, headers } = head
  let text = `HTTP/1.1 ${status} ${reason}\r\n${headerLines(headers)}`
  if (status === 101) text += 'connection: upgrade\r\nupgrade: websocket\r\n'
  if (body === 'chunked') text += 'transfer-encoding: chunked\r\n'
  else if (body === 'length') text += `content-length: ${lengthOf(head)}\r\n`
  if (close) text += 'connection: close\r\n'
  return `${text}\r\n`
}

export function headerLines(headers: Headers): string {
  let text = ''
  for (let at = 0; at < headers.length; at += 2) text += `${headers[at]}: ${headers[at + 1]}\r\n`
  return text
}

function lengthOf({ body }: ResponseHead): number {
  return typeof body === 'number' ? body : 0
}

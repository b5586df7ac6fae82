import type { Socket } from 'node:net'
import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import type { BodyLength } from '../../../sidecar/exchange.js'
import { readRequestHead } from '../../../sidecar/http1/request-head.js'
import { ResponseWriter } from '../../../sidecar/http1/response-writer.js'
import { defaultLimits } from '../../../sidecar/limits.js'

function answerTo(
  requestLine: string,
  response: { readonly status?: number; readonly body: BodyLength; readonly keep?: boolean },
  chunks: readonly string[] = [],
) {
  const request = readRequestHead(`${requestLine}\r\nHost: h\r\n`, defaultLimits.request)
  if (typeof request === 'string') throw new Error(request)
  const stream = new PassThrough()
  const writer = new ResponseWriter(stream as unknown as Socket)
  writer.begin(request)
  const { status = 200, body, keep = true } = response
  const kept = writer.head({ status, reason: 'R', headers: [], body }, { keep })
  for (const chunk of chunks) writer.body(Buffer.from(chunk))
  writer.end([])
  writer.flush()
  return { text: String(stream.read()).replace(/^HTTP\/1\.1 \d+ R\r\n/, ''), kept }
}

const GET = 'GET / HTTP/1.1'

test.each([
  ['a known length', GET, { body: 2 }, ['ok'], 'content-length: 2\r\n\r\nok', true],
  ['no body', GET, { body: 'none' }, [], 'content-length: 0\r\n\r\n', true],
  [
    'a body of unknown length',
    GET,
    { body: 'streamed' },
    ['a', 'bc'],
    'transfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n',
    true,
  ],
  [
    'a piece of no bytes, which does not end it',
    GET,
    { body: 'streamed' },
    ['', 'a', ''],
    'transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n',
    true,
  ],
  [
    'an end of the connection',
    GET,
    { body: 2, keep: false },
    ['ok'],
    'content-length: 2\r\nconnection: close\r\n\r\nok',
    false,
  ],
  [
    'a body of unknown length in HTTP/1.0',
    'GET / HTTP/1.0',
    { body: 'streamed' },
    ['ok'],
    'connection: close\r\n\r\nok',
    false,
  ],
  [
    'HEAD, with the length alone',
    'HEAD / HTTP/1.1',
    { body: 2 },
    [],
    'content-length: 2\r\n\r\n',
    true,
  ],
  ['HEAD, of unknown length', 'HEAD / HTTP/1.1', { body: 'streamed' }, ['ok'], '\r\n', true],
  ['204', GET, { status: 204, body: 'none' }, [], '\r\n', true],
  [
    '304, with the length of what is not sent',
    GET,
    { status: 304, body: 9 },
    [],
    'content-length: 9\r\n\r\n',
    true,
  ],
  [
    '101, which no other request follows',
    GET,
    { status: 101, body: 'none' },
    ['ws'],
    'connection: upgrade\r\nupgrade: websocket\r\n\r\nws',
    false,
  ],
] as const)('frames %s', (_, line, response, chunks, text, kept) => {
  expect(answerTo(line, response, chunks)).toEqual({ text, kept })
})

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type RawApp, rawApp } from '../support/raw-app.js'
import {
  ALLOW_CHECKOUT,
  cast,
  connectAs,
  limitsWith,
  policyOf,
  readAll,
  runProxy,
  type TestProxy,
  testIdentity,
  testPolicy,
  textReader,
} from '../support/running-proxy.js'

const people = cast()
/** What the app answers next; undefined to answer nothing, and `close` to close after it. */
let answer: { readonly text: string | undefined; readonly close?: boolean }
let app: RawApp
let running: TestProxy

beforeAll(async () => {
  app = await rawApp((_, socket) => {
    if (answer.close) socket.end(answer.text ?? '', 'latin1')
    return answer.close ? undefined : answer.text
  })
  running = await runProxy({
    identity: testIdentity(people.orders, [people.authority.bundle]),
    policy: testPolicy(policyOf(ALLOW_CHECKOUT, people.orders)),
    inbound: [
      {
        listen: { host: '127.0.0.1', port: 0 },
        app: app.address,
        protocol: 'http1',
      },
    ],
    limits: limitsWith({ response: { headers: 20, headBytes: 8192, bodyBytes: 10_000 } }),
  })
})

afterAll(async () => {
  await running[Symbol.asyncDispose]()
  await app[Symbol.asyncDispose]()
})

async function ask(method = 'GET', version = '1.1'): Promise<string> {
  const socket = await connectAs(people.checkout, running.port)
  socket.write(`${method} / HTTP/${version}\r\nHost: h\r\nConnection: close\r\n\r\n`)
  return readAll(socket)
}

const head = (fields: string) => `HTTP/1.1 200 OK\r\n${fields}\r\n`

describe('an answer that can be read in two ways is not passed on', () => {
  test.each([
    [
      'a length beside chunks',
      head('Content-Length: 2\r\nTransfer-Encoding: chunked\r\n') + '0\r\n\r\n',
      'bad_framing',
    ],
    ['two lengths', `${head('Content-Length: 2\r\nContent-Length: 3\r\n')}abc`, 'bad_framing'],
    ['a list of lengths', `${head('Content-Length: 2, 2\r\n')}ab`, 'bad_framing'],
    ['a length that is none', `${head('Content-Length: two\r\n')}ab`, 'bad_framing'],
    ['another transfer encoding', head('Transfer-Encoding: gzip\r\n'), 'bad_framing'],
    [
      'chunks in HTTP/1.0',
      `HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      'bad_framing',
    ],
    ['a bare LF', 'HTTP/1.1 200 OK\nContent-Length: 0\n\n', 'bare_line_end'],
    ['a bare LF in the headers', 'HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n', 'bad_header'],
    ['a folded header', head('A: b\r\n c\r\n'), 'folded_header'],
    ['a blank before the colon', head('A : b\r\n'), 'bad_header'],
    ['a NUL in a value', head('A: b\0c\r\n'), 'bad_header'],
    ['no status line', 'ok\r\n\r\n', 'bad_status_line'],
    ['a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n', 'bad_status_line'],
    ['a status of four digits', 'HTTP/1.1 2000 OK\r\n\r\n', 'bad_status_line'],
    ['a status below 100', 'HTTP/1.1 099 No\r\n\r\n', 'bad_status_line'],
    ['a status above 599', 'HTTP/1.1 600 No\r\n\r\n', 'bad_status_line'],
    ['another version', 'HTTP/2.0 200 OK\r\n\r\n', 'bad_status_line'],
    ['a control character in the reason', 'HTTP/1.1 200 O\x01K\r\n\r\n', 'bad_status_line'],
    ['an upgrade that nobody asked for', 'HTTP/1.1 101 Switching\r\n\r\n', 'bad_upgrade'],
    ['a head over the limit', head(`A: ${'b'.repeat(9000)}\r\n`), 'head_too_large'],
    ['too many headers', head('A: b\r\n'.repeat(21)), 'too_many_headers'],
    [
      'interim answers without end',
      'HTTP/1.1 102 Processing\r\n\r\n'.repeat(17),
      'bad_status_line',
    ],
  ])('%s', async (_, text, detail) => {
    const before = (await running.logged(0)).length
    answer = { text }
    const got = await ask()
    const final = got.slice(got.lastIndexOf('HTTP/1.1 '))
    expect(final).toMatch(/^HTTP\/1\.1 502 Bad Gateway\r\n/)
    const line = (await running.logged(before + 1)).at(-1)
    expect(line).toMatchObject({ failure: 'upstream-invalid', failure_detail: detail, status: 502 })
  })

  test('bytes behind the end of an answer do not become the next one', async () => {
    answer = {
      text: `${head('Content-Length: 2\r\n')}okHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil`,
    }
    const socket = await connectAs(people.checkout, running.port)
    const reader = textReader(socket)
    socket.write('GET /1 HTTP/1.1\r\nHost: h\r\n\r\n')
    await reader.until(/ok$/)
    answer = { text: `${head('Content-Length: 4\r\n')}good` }
    socket.write('GET /2 HTTP/1.1\r\nHost: h\r\n\r\n')
    expect(await reader.until(/good$/)).not.toContain('evil')
    socket.destroy()
  })

  test('a chunk that is none cuts the connection in the middle of the answer', async () => {
    answer = { text: `${head('Transfer-Encoding: chunked\r\n')}2\r\nok\r\nzz\r\n` }
    const got = await ask()
    expect(got).toContain('2\r\nok\r\n')
    expect(got).not.toContain('\r\n0\r\n')
  })
})

describe('an answer is passed on', () => {
  test.each([
    [
      'with its length',
      `${head('Content-Length: 2\r\n')}ok`,
      /content-length: 2\r\nconnection: close\r\n\r\nok$/,
    ],
    [
      'in chunks cut anew',
      `${head('Transfer-Encoding: chunked\r\n')}0002\r\nok\r\n0\r\n\r\n`,
      /\r\n\r\n2\r\nok\r\n0\r\n\r\n$/,
    ],
    [
      'with its trailers',
      `${head('Transfer-Encoding: chunked\r\n')}0\r\nx-sum: 1\r\n\r\n`,
      /\r\n\r\n0\r\nx-sum: 1\r\n\r\n$/,
    ],
    [
      'with a status and a reason of its own',
      'HTTP/1.1 418 I am a teapot\r\nContent-Length: 0\r\n\r\n',
      /^HTTP\/1\.1 418 I am a teapot\r\n/,
    ],
    ['without a reason', 'HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n', /^HTTP\/1\.1 200 \r\n/],
    [
      'with 204 and no body',
      'HTTP/1.1 204 No Content\r\n\r\n',
      /^HTTP\/1\.1 204 No Content\r\nconnection: close\r\n\r\n$/,
    ],
    [
      'with 304 and the length of what is not sent',
      'HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n',
      /content-length: 9\r\nconnection: close\r\n\r\n$/,
    ],
    [
      'after an early hint',
      `HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${head('Content-Length: 2\r\n')}ok`,
      /^HTTP\/1\.1 103 Early Hints\r\nlink: <\/a>\r\n\r\nHTTP\/1\.1 200 OK\r\n[^]*ok$/,
    ],
    [
      'without a 100 that was not waited for',
      `HTTP/1.1 100 Continue\r\n\r\n${head('Content-Length: 2\r\n')}ok`,
      /^HTTP\/1\.1 200 OK\r\n[^]*ok$/,
    ],
  ])('%s', async (_, text, expected) => {
    answer = { text }
    expect(await ask()).toMatch(expected)
  })

  test('that only the end of the connection ends, in chunks', async () => {
    answer = { text: `${head('')}all there is`, close: true }
    expect(await ask()).toMatch(
      /transfer-encoding: chunked\r\nconnection: close\r\n\r\nc\r\nall there is\r\n0\r\n\r\n$/,
    )
  })

  test('to HTTP/1.0 without chunks', async () => {
    answer = { text: `${head('Transfer-Encoding: chunked\r\n')}2\r\nok\r\n0\r\n\r\n` }
    const got = await ask('GET', '1.0')
    expect(got).toMatch(/\r\nconnection: close\r\n\r\nok$/)
    expect(got).not.toContain('chunked')
  })

  test('to HEAD with the length of what is not sent', async () => {
    answer = { text: head('Content-Length: 42\r\n') }
    expect(await ask('HEAD')).toMatch(/content-length: 42\r\nconnection: close\r\n\r\n$/)
  })

  test.each([
    'Connection: x-hop',
    'Keep-Alive: timeout=5',
    'Proxy-Connection: close',
    'X-Countersign-Decision: forged',
  ])('without %s', async (field) => {
    answer = { text: head(`${field}\r\nX-Hop: 1\r\nContent-Length: 0\r\n`) }
    const got = (await ask()).toLowerCase()
    expect(got).not.toMatch(/forged|timeout=5|proxy-connection/)
    expect(got.includes('x-hop')).toBe(field !== 'Connection: x-hop')
  })
})

describe('an app that', () => {
  test('closes without an answer is 502', async () => {
    answer = { text: undefined, close: true }
    expect(await ask()).toMatch(/^HTTP\/1\.1 502 Bad Gateway\r\n/)
  })

  test('breaks off in the middle of an answer breaks off the caller’s', async () => {
    answer = { text: `${head('Content-Length: 10\r\n')}four`, close: true }
    const before = (await running.logged(0)).length
    expect(await ask()).toMatch(/content-length: 10\r\n[^]*\r\n\r\nfour$/)
    expect((await running.logged(before + 1)).at(-1)).toMatchObject({ close_reason: 'upstream' })
  })

  test('says how long it keeps a connection is not asked on an older one', async () => {
    answer = { text: head('Keep-Alive: timeout=1\r\nContent-Length: 0\r\n') }
    const before = app.connections
    await ask()
    await ask()
    // One second less the margin is no time at all.
    await expect.poll(async () => (await ask(), app.connections - before)).toBeGreaterThan(1)
  })
})

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type RawApp, rawApp } from '../support/raw-app.js'
import {
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

/** Everything is allowed, so that what does not reach the app was stopped by the proxy's own rules. */
const ALLOW_ALL = `
- name: all
  from: [{ any: true }, { unauthenticated: true }]
  reason: these tests are about what no policy has to decide
`

const people = cast()
let app: RawApp
let running: TestProxy

beforeAll(async () => {
  app = await rawApp()
  running = await runProxy({
    identity: testIdentity(people.orders, [people.authority.bundle]),
    policy: testPolicy(policyOf(ALLOW_ALL, people.orders)),
    inbound: [{ listen: { host: '127.0.0.1', port: 0 }, app: app.address, protocol: 'http1' }],
    limits: limitsWith({
      request: { headBytes: 16_384, headers: 20, targetBytes: 8192, bodyBytes: 1000 },
    }),
  })
})

afterAll(async () => {
  await running[Symbol.asyncDispose]()
  await app[Symbol.asyncDispose]()
})

/** Sends the bytes and gives what comes back until the proxy closes, and what the app saw of them. */
async function send(text: string) {
  const before = app.received().length
  const lines = (await running.logged(0)).length
  const socket = await connectAs(people.checkout, running.port)
  socket.write(text, 'latin1')
  const answer = await readAll(socket)
  socket.destroy()
  return {
    answer,
    status: Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1]),
    seen: app.received().slice(before),
    line: (await running.logged(lines + 1)).at(-1),
  }
}

const get = (target: string) => `GET ${target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n`
const post = (headers: string, body = '') => `POST /a HTTP/1.1\r\nHost: h\r\n${headers}\r\n${body}`

describe('the app never sees', () => {
  test.each([
    ['HD-01 a target without a leading slash', get('a'), 400, 'not_origin_form'],
    ['HD-02 the URL of another host', get('http://evil/x'), 400, 'not_origin_form'],
    ['HD-03 an asterisk with GET', get('*'), 400, 'not_origin_form'],
    ['HD-04 a fragment', get('/a#b'), 400, 'fragment'],
    ['HD-05 a backslash', get('/a\\b'), 400, 'backslash'],
    ['HD-07 an encoded NUL', get('/a%00'), 400, 'encoded_control'],
    ['HD-08 a path parameter', get('/a;b'), 400, 'path_parameter'],
    ['HD-09 a dot segment', get('/a/../b'), 400, 'dot_segment'],
    ['HD-10 UTF-8 in the path', get('/\xc3\xa9'), 400, 'bad_byte'],
    ['HD-11 a tab in the path', get('/a\tb'), 400, 'bad_byte'],
    ['HD-11 a blank in the path', get('/a b'), 400, 'bad_byte'],
    ['HD-11 DEL in the path', get('/a\x7f'), 400, 'bad_byte'],
    ['HD-11 a control character in the path', get('/a\x01'), 400, 'bad_byte'],
    [
      'HD-12 two Host headers',
      'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n',
      400,
      'host_conflict',
    ],
    [
      'HD-12 two equal Host headers',
      'GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n',
      400,
      'host_conflict',
    ],
    ['no Host header', 'GET / HTTP/1.1\r\n\r\n', 400, 'bad_host'],
    ['an empty Host header', 'GET / HTTP/1.1\r\nHost:\r\n\r\n', 400, 'bad_host'],
    ['a Host header with a path', 'GET / HTTP/1.1\r\nHost: a/b\r\n\r\n', 400, 'bad_host'],
    ['HD-14 a method in lower case', 'get / HTTP/1.1\r\nHost: h\r\n\r\n', 400, 'bad_method'],
    [
      'HD-18 Content-Length with Transfer-Encoding',
      post('Content-Length: 4\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'),
      400,
      'bad_framing',
    ],
    [
      'HD-18 Transfer-Encoding with Content-Length',
      post('Transfer-Encoding: chunked\r\nContent-Length: 4\r\n', '0\r\n\r\n'),
      400,
      'bad_framing',
    ],
    [
      'HD-18 a bare LF after the request line',
      'GET / HTTP/1.1\nHost: h\r\n\r\n',
      400,
      'bad_request_line',
    ],
    ['HD-18 bare LFs alone', 'GET / HTTP/1.1\nHost: h\n\n', 400, 'bare_line_end'],
    [
      'HD-18 a bare LF in the headers',
      'GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n',
      400,
      'bad_header',
    ],
    [
      'HD-18 a bare CR in the headers',
      'GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n',
      400,
      'bad_header',
    ],
    [
      'HD-18 a folded line',
      'GET / HTTP/1.1\r\nHost: h\r\nX: y\r\n z\r\n\r\n',
      400,
      'folded_header',
    ],
    [
      'HD-18 a line folded with a tab',
      'GET / HTTP/1.1\r\nHost: h\r\nX: y\r\n\tz\r\n\r\n',
      400,
      'folded_header',
    ],
    [
      'HD-18 a blank before the colon',
      'GET / HTTP/1.1\r\nHost: h\r\nX : y\r\n\r\n',
      400,
      'bad_header',
    ],
    [
      'HD-18 a header without a name',
      'GET / HTTP/1.1\r\nHost: h\r\n: y\r\n\r\n',
      400,
      'bad_header',
    ],
    [
      'HD-18 a header without a colon',
      'GET / HTTP/1.1\r\nHost: h\r\nXY\r\n\r\n',
      400,
      'bad_header',
    ],
    ['an empty line before the request', `\r\n${get('/')}`, 400, 'bad_request_line'],
    [
      'HD-19 chunked, identity',
      post('Transfer-Encoding: chunked, identity\r\n', '0\r\n\r\n'),
      400,
      'bad_framing',
    ],
    ['HD-19 identity', post('Transfer-Encoding: identity\r\n'), 400, 'bad_framing'],
    [
      'HD-19 gzip, chunked',
      post('Transfer-Encoding: gzip, chunked\r\n', '0\r\n\r\n'),
      400,
      'bad_framing',
    ],
    [
      'HD-19 chunked twice',
      post('Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'),
      400,
      'bad_framing',
    ],
    [
      'HD-19 a vertical tab before chunked',
      post('Transfer-Encoding: \x0bchunked\r\n', '0\r\n\r\n'),
      400,
      'bad_header',
    ],
    [
      'HD-19 two lengths',
      post('Content-Length: 1\r\nContent-Length: 2\r\n', 'ab'),
      400,
      'bad_framing',
    ],
    [
      'HD-19 two equal lengths',
      post('Content-Length: 1\r\nContent-Length: 1\r\n', 'a'),
      400,
      'bad_framing',
    ],
    ['HD-19 a list of lengths', post('Content-Length: 1, 1\r\n', 'a'), 400, 'bad_framing'],
    ['a length with a sign', post('Content-Length: +1\r\n', 'a'), 400, 'bad_framing'],
    ['a negative length', post('Content-Length: -1\r\n', 'a'), 400, 'bad_framing'],
    ['a length in hexadecimal', post('Content-Length: 0x1\r\n', 'a'), 400, 'bad_framing'],
    ['an empty length', post('Content-Length:\r\n', 'a'), 400, 'bad_framing'],
    [
      'a length beyond what numbers hold',
      post('Content-Length: 99999999999999999999\r\n', 'a'),
      400,
      'bad_framing',
    ],
    [
      'a chunked request of HTTP/1.0',
      'POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      400,
      'bad_framing',
    ],
    ['HD-21 a NUL in a value', 'GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n', 400, 'bad_header'],
    [
      'HD-21 a bell in a value',
      'GET / HTTP/1.1\r\nHost: h\r\nX: a\x07b\r\n\r\n',
      400,
      'bad_header',
    ],
    [
      'HD-21 a colon and a blank in a name',
      'GET / HTTP/1.1\r\nHost: h\r\nX y: z\r\n\r\n',
      400,
      'bad_header',
    ],
    ['HD-23 CONNECT', 'CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n', 400, 'not_origin_form'],
    ['HD-23 CONNECT to a path', 'CONNECT /a HTTP/1.1\r\nHost: h\r\n\r\n', 405, 'unknown_method'],
    ['HD-23 TRACE', 'TRACE / HTTP/1.1\r\nHost: h\r\n\r\n', 405, 'unknown_method'],
    [
      'HD-23 a method that nobody knows',
      'FROB / HTTP/1.1\r\nHost: h\r\n\r\n',
      405,
      'unknown_method',
    ],
    ['HD-23 the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 505, 'bad_version'],
    [
      'HD-24 an expectation that nobody meets',
      post('Expect: miracles\r\nContent-Length: 1\r\n', 'a'),
      417,
      'bad_expectation',
    ],
    ['HD-25 a target over the limit', get(`/${'a'.repeat(8192)}`), 414, 'target_too_long'],
    ['HD-25 a target that does not end', `GET /${'a'.repeat(8300)}`, 414, 'target_too_long'],
    [
      'HD-25 a head over the limit',
      get(`/ HTTP/1.1\r\nX: ${'a'.repeat(17_000)}`).replace(/ HTTP\/1\.1\r\nHost/, '\r\nHost'),
      431,
      'head_too_large',
    ],
    [
      'HD-25 a head that does not end',
      `GET / HTTP/1.1\r\nHost: h\r\nX: ${'a'.repeat(17_000)}`,
      431,
      'head_too_large',
    ],
    [
      'HD-25 a header too many',
      `GET / HTTP/1.1\r\nHost: h\r\n${'X: y\r\n'.repeat(20)}\r\n`,
      431,
      'too_many_headers',
    ],
    ['a body over the limit', post('Content-Length: 1001\r\n'), 413, 'body_too_large'],
    [
      'a chunk with an extension',
      post('Transfer-Encoding: chunked\r\n', '1;a=b\r\nx\r\n0\r\n\r\n'),
      400,
      'bad_chunk',
    ],
    [
      'a chunk with a blank',
      post('Transfer-Encoding: chunked\r\n', '1 \r\nx\r\n0\r\n\r\n'),
      400,
      'bad_chunk',
    ],
    [
      'a chunk with a bare LF',
      post('Transfer-Encoding: chunked\r\n', '1\nx\r\n0\r\n\r\n'),
      400,
      'bad_chunk',
    ],
    [
      'a chunk without a size',
      post('Transfer-Encoding: chunked\r\n', '\r\nx\r\n0\r\n\r\n'),
      400,
      'bad_chunk',
    ],
    [
      'a chunk with a sign',
      post('Transfer-Encoding: chunked\r\n', '-1\r\nx\r\n0\r\n\r\n'),
      400,
      'bad_chunk',
    ],
    [
      'a chunk with a prefix',
      post('Transfer-Encoding: chunked\r\n', '0x1\r\nx\r\n0\r\n\r\n'),
      400,
      'bad_chunk',
    ],
    [
      'a chunk with nine digits',
      post('Transfer-Encoding: chunked\r\n', '000000001\r\nx\r\n0\r\n\r\n'),
      400,
      'bad_chunk',
    ],
    [
      'a chunk longer than its size',
      post('Transfer-Encoding: chunked\r\n', '1\r\nxy\r\n0\r\n\r\n'),
      400,
      'bad_chunk',
    ],
    [
      'chunks over the limit',
      post('Transfer-Encoding: chunked\r\n', `3e9\r\n${'x'.repeat(1001)}\r\n0\r\n\r\n`),
      413,
      'body_too_large',
    ],
    [
      'a trailer that is no header',
      post('Transfer-Encoding: chunked\r\n', '0\r\nX y\r\n\r\n'),
      400,
      'bad_header',
    ],
    [
      'a folded trailer',
      post('Transfer-Encoding: chunked\r\n', '0\r\nX: y\r\n z\r\n\r\n'),
      400,
      'folded_header',
    ],
    [
      'an upgrade with POST',
      'POST / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n',
      400,
      'bad_upgrade',
    ],
    ['HTTP/0.9', 'GET /\r\n\r\n', 400, 'bad_request_line'],
    ['HTTP/1.2', 'GET / HTTP/1.2\r\nHost: h\r\n\r\n', 505, 'bad_version'],
    ['a protocol of another name', 'GET / HTCPCP/1.0\r\nHost: h\r\n\r\n', 400, 'bad_request_line'],
    [
      'two blanks in the request line',
      'GET  / HTTP/1.1\r\nHost: h\r\n\r\n',
      400,
      'not_origin_form',
    ],
    ['a tab in the request line', 'GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n', 400, 'bad_request_line'],
  ])('%s', async (_, text, status, reason) => {
    const { answer, seen, line, ...got } = await send(text)
    expect({ status: got.status, seen }).toEqual({ status, seen: '' })
    expect(line).toMatchObject({ decision: 'deny', reason: `malformed:${reason}`, status })
    expect(answer).toContain('content-type: application/problem+json\r\n')
    expect(answer).toContain(`x-countersign-decision: ${String(line?.['decision_id'])}\r\n`)
  })
})

describe('the app sees', () => {
  test.each([
    [
      'HD-02 the path of a URL that names the Host',
      'GET http://h/x?y HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n',
      'GET /x?y HTTP/1.1\r\nhost: h\r\n',
    ],
    ['HD-06 one slash for two', get('//x'), 'GET /x HTTP/1.1\r\n'],
    ['an escape in its one spelling', get('/%61%c3%a9'), 'GET /a%C3%A9 HTTP/1.1\r\n'],
    [
      'OPTIONS of the server',
      'OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n',
      'OPTIONS * HTTP/1.1\r\n',
    ],
    [
      'a host in lower case, with its port',
      'GET / HTTP/1.1\r\nHost: Shop.Test.:8443\r\nConnection: close\r\n\r\n',
      'host: shop.test:8443\r\n',
    ],
    [
      'HD-15 both of two equal names',
      'GET / HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\nConnection: close\r\n\r\n',
      'x-a: 1\r\nx-a: 2\r\n',
    ],
    [
      'HD-21 a value without blanks around it',
      'GET / HTTP/1.1\r\nHost: h\r\nX-A: \t 1 \t \r\nConnection: close\r\n\r\n',
      'x-a: 1\r\n',
    ],
    ['a request of HTTP/1.0', 'GET /old HTTP/1.0\r\nHost: h\r\n\r\n', 'GET /old HTTP/1.1\r\n'],
    [
      'a length of nothing',
      post('Content-Length: 0\r\nConnection: close\r\n'),
      'content-length: 0\r\n',
    ],
    [
      'chunks cut anew',
      post('Connection: close\r\nTransfer-Encoding: CHUNKED\r\n', '00a\r\n0123456789\r\n0\r\n\r\n'),
      'transfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n',
    ],
    [
      'HD-26 a trailer that is none of the proxy’s',
      post(
        'Connection: close\r\nTransfer-Encoding: chunked\r\n',
        '1\r\nx\r\n0\r\nX-Sum: 7\r\n\r\n',
      ),
      '0\r\nx-sum: 7\r\n\r\n',
    ],
  ])('%s', async (_, text, expected) => {
    const { status, seen } = await send(text)
    expect(status).toBe(200)
    expect(seen).toContain(expected)
  })

  test.each([
    ['HD-16 a name with an underscore', 'X_A: 1', /x_a/i],
    ['HD-17 a header that Connection names', 'Connection: x-a, close\r\nX-A: 1', /x-a/],
    ['HD-17 the Connection header itself', 'Connection: keep-alive', /connection/],
    ['a forged caller', 'X-Countersign-Caller: spiffe://prod.test/admin', /admin/],
    [
      'a forged certificate',
      'X-Forwarded-Client-Cert: By=x;Hash=y;URI=spiffe://prod.test/admin',
      /admin/,
    ],
    ['X-Original-URL', 'X-Original-URL: /admin', /admin/],
    ['X-Rewrite-URL', 'X-Rewrite-URL: /admin', /admin/],
    ['X-HTTP-Method-Override', 'X-HTTP-Method-Override: DELETE', /DELETE/],
    ['X-HTTP-Method', 'X-HTTP-Method: DELETE', /DELETE/],
    ['X-Method-Override', 'X-Method-Override: DELETE', /DELETE/],
    ['x-envoy-original-path', 'x-envoy-original-path: /admin', /admin/],
    ['Forwarded', 'Forwarded: for=1.2.3.4', /1\.2\.3\.4/],
    ['X-Forwarded-For', 'X-Forwarded-For: 1.2.3.4', /1\.2\.3\.4/],
    ['X-Forwarded-Host', 'X-Forwarded-Host: evil', /evil/],
    [
      'HD-24 an upgrade to h2c',
      'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk',
      /h2c|http2-settings|upgrade/i,
    ],
    ['Keep-Alive', 'Keep-Alive: timeout=5', /keep-alive/],
    ['Proxy-Connection', 'Proxy-Connection: keep-alive', /proxy-connection/],
    ['TE', 'TE: trailers', /\r\nte:/],
  ])('nothing of %s', async (_, header, unwanted) => {
    const before = app.received().length
    const socket = await connectAs(people.checkout, running.port)
    socket.write(`GET / HTTP/1.1\r\nHost: h\r\n${header}\r\n\r\n`)
    await textReader(socket).until(/^HTTP\/1\.1 200 OK\r\n[^]*ok$/)
    socket.destroy()
    expect(app.received().slice(before)).not.toMatch(unwanted)
  })

  test('our own headers, also when Connection names them', async () => {
    const { seen } = await send(
      'GET / HTTP/1.1\r\nHost: h\r\nConnection: close, x-forwarded-client-cert, x-countersign-caller\r\n\r\n',
    )
    const { checkout, orders } = people
    const hash = checkout.chain[0].fingerprint
    expect(seen).toContain(
      `x-forwarded-client-cert: By=${orders.id};Hash=${hash};URI=${checkout.id}\r\n`,
    )
    expect(seen.match(/x-forwarded-client-cert/g)).toHaveLength(1)
    expect(seen.match(/x-countersign-caller/g)).toHaveLength(1)
  })

  test.each([
    'content-length: 5',
    'host: evil',
    'x-countersign-caller: evil',
    'transfer-encoding: chunked',
  ])('HD-26 nothing of the trailer %s', async (trailer) => {
    const { seen, status } = await send(
      post(
        'Connection: close\r\nTransfer-Encoding: chunked\r\n',
        `1\r\nx\r\n0\r\n${trailer}\r\n\r\n`,
      ),
    )
    expect(status).toBe(200)
    expect(seen).toContain('1\r\nx\r\n0\r\n\r\n')
  })
})

test('a request hidden behind another is judged as a request of its own', async () => {
  const { answer, seen } = await send(
    `POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n`,
  )
  expect(answer.match(/HTTP\/1\.1 200/g)).toHaveLength(2)
  expect(seen).toMatch(/POST \/a [^]*\r\n\r\nabcGET \/b /)
})

import { once } from 'node:events'
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from 'node:http2'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type H2cApp, h2cApp } from '../support/h2c-app.js'
import { clientPreface, framesIn, requestFrame } from '../support/http2-frames.js'
import { type RawApp, rawApp } from '../support/raw-app.js'
import {
  cast,
  connectAs,
  policyOf,
  readAll,
  runProxy,
  type TestProxy,
  testIdentity,
  testPolicy,
} from '../support/running-proxy.js'

const RULES = `
- name: checkout
  from: [{ app: checkout }]
  to: [{ paths: ["/open/{**}"] }, { grpc: ["shop.Orders/*"] }]
`

const people = cast()
let plain: RawApp
let h2c: H2cApp
let running: TestProxy

beforeAll(async () => {
  plain = await rawApp()
  h2c = await h2cApp()
  const listen = { host: '127.0.0.1', port: 0 }
  running = await runProxy({
    identity: testIdentity(people.orders, [people.authority.bundle]),
    policy: testPolicy(policyOf(RULES, people.orders)),
    inbound: [
      { name: 'http1', listen, app: plain.address, protocol: 'http1' },
      { name: 'h2c', listen, app: h2c.address, protocol: 'h2c' },
    ],
  })
})

afterAll(async () => {
  await running[Symbol.asyncDispose]()
  await plain[Symbol.asyncDispose]()
  await h2c[Symbol.asyncDispose]()
})

async function session(name: string): Promise<ClientHttp2Session> {
  const socket = await connectAs(people.checkout, running.portOf(name), ['h2'])
  return connect('https://orders', { createConnection: () => socket })
}

interface Got {
  readonly headers: IncomingHttpHeaders
  readonly body: string
  readonly trailers: IncomingHttpHeaders
}

async function call(
  client: ClientHttp2Session,
  headers: Record<string, string | string[]>,
  body?: string,
): Promise<Got> {
  const stream = client.request(headers, { endStream: body === undefined })
  let trailers: IncomingHttpHeaders = {}
  stream.on('trailers', (got) => {
    trailers = got
  })
  if (body !== undefined) stream.end(body)
  const [head] = (await once(stream, 'response')) as [IncomingHttpHeaders]
  let text = ''
  stream.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
  })
  await once(stream, 'end')
  return { headers: head, body: text, trailers }
}

test('a call over HTTP/2 reaches an app that speaks HTTP/1.1', async () => {
  const client = await session('http1')
  const { headers, body } = await call(client, {
    ':path': '/open/a?b',
    'x-a': ['1', '2'],
    te: 'trailers',
  })
  expect(headers).toMatchObject({ ':status': 200, 'content-length': '2' })
  expect(body).toBe('ok')
  expect(plain.received()).toMatch(
    /^GET \/open\/a\?b HTTP\/1\.1\r\nhost: orders:443\r\nx-a: 1\r\nx-a: 2\r\n/,
  )
  expect(plain.received()).toContain(`x-countersign-caller: ${people.checkout.id}\r\n`)
  expect(plain.received()).not.toMatch(/\r\nte:/)
  client.close()
})

test('a body over HTTP/2 reaches an app that speaks HTTP/1.1 with its length, or in chunks', async () => {
  const client = await session('http1')
  await call(client, { ':method': 'POST', ':path': '/open/a', 'content-length': '5' }, 'sized')
  await call(client, { ':method': 'POST', ':path': '/open/a' }, 'streamed')
  expect(plain.received()).toContain('content-length: 5\r\n\r\nsized')
  expect(plain.received()).toContain('transfer-encoding: chunked\r\n\r\n8\r\nstreamed\r\n0\r\n\r\n')
  client.close()
})

test('a call over HTTP/2 reaches an app that speaks it too, trailers included', async () => {
  const client = await session('h2c')
  const got = await call(
    client,
    { ':method': 'POST', ':path': '/open/echo', te: 'trailers' },
    'hello',
  )
  expect(got).toMatchObject({
    headers: { ':status': 200, 'x-te': 'trailers', 'x-caller': people.checkout.id },
    body: 'hello',
    trailers: { 'x-sum': '5' },
  })
  client.close()
})

test('a call over HTTP/1.1 reaches an app that speaks HTTP/2', async () => {
  const socket = await connectAs(people.checkout, running.portOf('h2c'), ['http/1.1'])
  socket.write(
    'POST /open/echo HTTP/1.1\r\nHost: orders\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello',
  )
  const answer = await readAll(socket)
  expect(answer).toMatch(/^HTTP\/1\.1 200 \r\n/)
  expect(answer).toContain('transfer-encoding: chunked\r\n')
  expect(answer).toContain('5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n')
})

describe('a refusal over HTTP/2', () => {
  test('is problem+json with the id of the decision, which the log has as well', async () => {
    const client = await session('h2c')
    const { headers, body } = await call(client, { ':path': '/closed' })
    const line = (await running.logged(1)).at(-1)
    expect(headers).toMatchObject({
      ':status': 403,
      'content-type': 'application/problem+json',
      'x-countersign-decision': line?.['decision_id'],
    })
    expect(JSON.parse(body)).toEqual({
      type: 'urn:countersign:denied',
      decision_id: line?.['decision_id'],
    })
    expect(line).toMatchObject({ decision: 'deny', reason: 'no-rule', protocol: 'h2', status: 403 })
    client.close()
  })

  test.each([
    ['denied', '/shop.Other/Get', '7'],
    ['malformed', '/shop.Orders/../Get', '3'],
  ])('of a gRPC call is a gRPC status: %s', async (_, path, status) => {
    const client = await session('h2c')
    const { headers } = await call(
      client,
      { ':method': 'POST', ':path': path, 'content-type': 'application/grpc' },
      'x',
    )
    expect(headers).toMatchObject({ ':status': 200, 'grpc-status': status })
    expect(headers['grpc-message']).toContain(String(headers['x-countersign-decision']))
    client.close()
  })
})

describe('over HTTP/2 the app never sees', () => {
  const usual = [
    [':method', 'GET'],
    [':scheme', 'https'],
    [':authority', 'a'],
    [':path', '/open/x'],
  ] as const
  const without = (name: string) => usual.filter(([held]) => held !== name)
  const withValue = (name: string, value: string) =>
    usual.map(([held, old]) => [held, held === name ? value : old] as const)

  test.each([
    ['HD-01 a path without a slash', withValue(':path', 'open')],
    ['HD-03 an asterisk with GET', withValue(':path', '*')],
    ['HD-04 a fragment', withValue(':path', '/open/a#b')],
    ['HD-05 a backslash', withValue(':path', '/open/a\\b')],
    ['HD-07 an encoded NUL', withValue(':path', '/open/a%00')],
    ['HD-08 a path parameter', withValue(':path', '/open/a;b')],
    ['HD-09 a dot segment', withValue(':path', '/open/../b')],
    ['HD-10 UTF-8 in the path', withValue(':path', '/open/\xc3\xa9')],
    ['HD-11 a blank in the path', withValue(':path', '/open/a b')],
    ['HD-13 another host', [...usual, ['host', 'b'] as const]],
    ['HD-14 a method in lower case', withValue(':method', 'get')],
    ['HD-20 a name in capitals', [...usual, ['X-A', '1'] as const]],
    ['HD-20 a connection header', [...usual, ['connection', 'close'] as const]],
    ['HD-20 a transfer encoding', [...usual, ['transfer-encoding', 'chunked'] as const]],
    ['HD-20 te other than trailers', [...usual, ['te', 'gzip'] as const]],
    ['HD-20 no path', without(':path')],
    ['HD-20 an empty path', withValue(':path', '')],
    ['HD-20 no method', without(':method')],
    [
      'HD-20 a pseudo header after another',
      [...without(':path'), ['x-a', '1'] as const, [':path', '/open/x'] as const],
    ],
    ['HD-20 a pseudo header twice', [...usual, [':path', '/open/y'] as const]],
    ['HD-22 another scheme', withValue(':scheme', 'ftp')],
    ['HD-23 CONNECT', [[':method', 'CONNECT'] as const, [':authority', 'a:1'] as const]],
    ['HD-23 TRACE', withValue(':method', 'TRACE')],
    ['a length with a body that does not come', [...usual, ['content-length', '5'] as const]],
    ['two lengths', [...usual, ['content-length', '0'] as const, ['content-length', '1'] as const]],
  ])('%s', async (_, fields) => {
    const before = h2c.requests
    const socket = await connectAs(people.checkout, running.portOf('h2c'), ['h2'])
    socket.write(Buffer.concat([clientPreface(), requestFrame(fields)]))
    const chunks: Buffer[] = []
    const isRefused = () =>
      framesIn(Buffer.concat(chunks)).some(
        ({ type, stream, payload }) =>
          type === RST_STREAM ||
          type === GOAWAY ||
          (type === HEADERS && stream === 1 && !isOk(payload)),
      )
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    while (!isRefused() && !socket.destroyed)
      await Promise.race([once(socket, 'data'), once(socket, 'close')])
    expect(isRefused()).toBe(true)
    expect(h2c.requests).toBe(before)
    socket.destroy()
  })
})

// Node's HTTP/2 layer takes such a field out of the request before anybody sees it.
test.each(['1\r\nx-b: 2', '1\0', 'a\x07'])(
  'HD-21 the app sees no field with the value %j',
  async (value) => {
    const before = plain.received().length
    const socket = await connectAs(people.checkout, running.portOf('http1'), ['h2'])
    const fields = [
      [':method', 'GET'],
      [':scheme', 'https'],
      [':authority', 'a'],
      [':path', '/open/x'],
      ['x-a', value],
    ] as const
    socket.write(Buffer.concat([clientPreface(), requestFrame(fields)]))
    await running.logged((await running.logged(0)).length + 1)
    expect(plain.received().slice(before)).toMatch(/^GET \/open\/x /)
    expect(plain.received().slice(before)).not.toMatch(/x-a|x-b/)
    socket.destroy()
  },
)

const HEADERS = 1
const RST_STREAM = 3
const GOAWAY = 7
/** `:status 200` has a number of its own in HPACK. */
const isOk = (payload: Buffer) => payload[0] === 0x88

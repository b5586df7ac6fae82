import { once } from 'node:events'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { OK, type RawApp, rawApp } from '../support/raw-app.js'
import {
  cast,
  connectAs,
  policyOf,
  readAll,
  runProxy,
  type TestProxy,
  testIdentity,
  testPolicy,
  textReader,
} from '../support/running-proxy.js'

const RULES = `
- name: checkout
  from: [{ app: checkout }]
  to: [{ paths: ["/open/{**}"] }]
`

const people = cast()
let respond: (text: string) => string | undefined = () => OK
let app: RawApp
let running: TestProxy

beforeAll(async () => {
  app = await rawApp((text) => respond(text))
  running = await runProxy({
    identity: testIdentity(people.orders, [people.authority.bundle]),
    policy: testPolicy(policyOf(RULES, people.orders)),
    inbound: [{ listen: { host: '127.0.0.1', port: 0 }, app: app.address, protocol: 'http1' }],
  })
})

afterAll(async () => {
  await running[Symbol.asyncDispose]()
  await app[Symbol.asyncDispose]()
})

const open = () => connectAs(people.checkout, running.port)
const get = (path: string, more = '') => `GET ${path} HTTP/1.1\r\nHost: h\r\n${more}\r\n`

test('one connection carries many requests, each decided by itself', async () => {
  respond = () => OK
  const socket = await open()
  const reader = textReader(socket)
  socket.write(get('/open/1'))
  await reader.until(/ok$/)
  socket.write(get('/closed'))
  await reader.until(/decision_id":"[^"]+"}$/)
  socket.write(get('/open/2'))
  await reader.until(/ok$/)
  expect(reader.text().match(/HTTP\/1\.1 \d+/g)).toEqual([
    'HTTP/1.1 200',
    'HTTP/1.1 403',
    'HTTP/1.1 200',
  ])
  socket.destroy()
})

test('requests sent ahead of time are answered one after the other', async () => {
  let asked = 0
  respond = (text) => {
    // The second is not sent on before the first is answered.
    expect(text.match(/GET/g)).toHaveLength(1)
    asked += 1
    return `HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n${asked}`
  }
  const socket = await open()
  socket.write(
    get('/open/1') + get('/closed') + get('/open/2') + get('/open/3', 'Connection: close\r\n'),
  )
  const answer = await readAll(socket)
  expect(answer.match(/HTTP\/1\.1 \d+|\r\n\r\n\d/g)).toEqual([
    'HTTP/1.1 200',
    '\r\n\r\n1',
    'HTTP/1.1 403',
    'HTTP/1.1 200',
    '\r\n\r\n2',
    'HTTP/1.1 200',
    '\r\n\r\n3',
  ])
})

test('more requests sent ahead of time than are held at once are all answered in their order', async () => {
  respond = (text) => {
    const path = /^GET (\S+)/.exec(text)?.[1] ?? ''
    return `HTTP/1.1 200 OK\r\ncontent-length: ${path.length}\r\n\r\n${path}`
  }
  const socket = await open()
  const paths = Array.from({ length: 3000 }, (_, at) => `/open/${at}`)
  socket.write(paths.map((path) => get(path)).join('') + get('/open/last', 'Connection: close\r\n'))
  const answer = await readAll(socket)
  expect(answer.match(/\/open\/(?:\d+|last)/g)).toEqual([...paths, '/open/last'])
})

test('a request that arrives byte by byte is the same request', async () => {
  respond = (text) => (text.endsWith('abc') ? OK : undefined)
  const socket = await open()
  const reader = textReader(socket)
  const text =
    'POST /open/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nx-a: 1\r\n\r\n'
  respond = (got) => (got.endsWith('x-a: 1\r\n\r\n') ? OK : undefined)
  for (const byte of text) {
    socket.write(byte)
    await new Promise((resolve) => setImmediate(resolve))
  }
  expect(await reader.until(/ok$/)).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
  socket.destroy()
})

describe('an expectation of 100-continue', () => {
  test('is met by the proxy when the request is let through', async () => {
    respond = (text) => (text.endsWith('body') ? OK : undefined)
    const socket = await open()
    const reader = textReader(socket)
    socket.write(
      'POST /open/a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n',
    )
    expect(await reader.until('\r\n\r\n')).toBe('HTTP/1.1 100 Continue\r\n\r\n')
    socket.write('body')
    await reader.until(/ok$/)
    expect(app.received()).not.toMatch(/expect:/i)
    socket.destroy()
  })

  test('is not met when it is refused, and the connection ends', async () => {
    const socket = await open()
    socket.write(
      'POST /closed HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n',
    )
    const answer = await readAll(socket)
    expect(answer).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n/)
    expect(answer).toContain('connection: close\r\n')
  })
})

describe('the body of a refused request', () => {
  test('is read and thrown away when it is short', async () => {
    respond = () => OK
    const socket = await open()
    const reader = textReader(socket)
    const before = app.received().length
    socket.write(
      `POST /closed HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n${'x'.repeat(1000)}${get('/open/1')}`,
    )
    await reader.until(/ok$/)
    expect(reader.text().match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 403', 'HTTP/1.1 200'])
    expect(app.received().slice(before)).not.toContain('xxx')
    socket.destroy()
  })

  test.each([
    ['long', 'Content-Length: 1000000\r\n'],
    ['of unknown length', 'Transfer-Encoding: chunked\r\n'],
  ])('ends the connection when it is %s', async (_, field) => {
    const socket = await open()
    socket.write(`POST /closed HTTP/1.1\r\nHost: h\r\n${field}\r\n`)
    const answer = await readAll(socket)
    expect(answer).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n[^]*connection: close\r\n/)
  })
})

describe('an upgrade to WebSocket', () => {
  const upgrade = (path: string, connection = 'Upgrade') =>
    get(path, `Connection: ${connection}\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n`)

  test('is decided as one request and is then a conversation both ways', async () => {
    respond = (text) =>
      text.startsWith('GET /open')
        ? 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\nhello'
        : `echo ${text}`
    const socket = await open()
    const reader = textReader(socket)
    socket.write(`${upgrade('/open/ws')}early`)
    await reader.until('echo early')
    expect(reader.text()).toMatch(
      /^HTTP\/1\.1 101 Switching Protocols\r\nsec-websocket-accept: y\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello/,
    )
    expect(app.received()).toContain('connection: upgrade\r\nupgrade: websocket\r\n')
    socket.write('GET /closed HTTP/1.1\r\n\r\n')
    await reader.until('echo GET /closed')
    const before = (await running.logged(0)).length
    socket.end()
    await once(socket, 'end')
    expect((await running.logged(before + 1)).at(-1)).toMatchObject({
      status: 101,
      path: '/open/ws',
      close_reason: 'complete',
    })
  })

  test('may be answered without one', async () => {
    respond = () => OK
    const socket = await open()
    socket.write(upgrade('/open/ws', 'upgrade, close'))
    expect(await readAll(socket)).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
  })

  test('is refused where the policy does not name it', async () => {
    const socket = await open()
    socket.write(upgrade('/closed', 'upgrade, close'))
    expect(await readAll(socket)).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n/)
  })
})

describe('backpressure', () => {
  test('a slow caller slows the app down and loses nothing', async () => {
    const size = 8 * 1024 * 1024
    respond = () => `HTTP/1.1 200 OK\r\ncontent-length: ${size}\r\n\r\n${'y'.repeat(size)}`
    const socket = await open()
    socket.pause()
    socket.write(get('/open/large', 'Connection: close\r\n'))
    await new Promise((resolve) => setImmediate(resolve))
    const reading = readAll(socket)
    socket.resume()
    const answer = await reading
    expect(answer.length - answer.indexOf('\r\n\r\n') - 4).toBe(size)
  })

  test('a slow app slows the caller down and loses nothing', async () => {
    const size = 8 * 1024 * 1024
    let got = 0
    respond = (text) => {
      got += text.length
      return got > size ? OK : undefined
    }
    const socket = await open()
    socket.write(
      `POST /open/large HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: ${size}\r\n\r\n`,
    )
    socket.write('z'.repeat(size))
    expect(await readAll(socket)).toMatch(/^HTTP\/1\.1 200 OK/)
  })
})

test('a connection that was held back by a large body carries the next request as well', async () => {
  const size = 4 * 1024 * 1024
  let got = 0
  respond = (text) => {
    got += text.length
    return got > size || text.startsWith('GET') ? OK : undefined
  }
  const socket = await open()
  const reader = textReader(socket)
  for (let round = 0; round < 5; round += 1) {
    got = 0
    socket.write(`POST /open/large HTTP/1.1\r\nHost: h\r\nContent-Length: ${size}\r\n\r\n`)
    socket.write('z'.repeat(size))
    await reader.until(new RegExp(`(HTTP/1.1 200 OK[^]*?ok){${round * 2 + 1}}$`))
    socket.write(get('/open/small'))
    await reader.until(new RegExp(`(HTTP/1.1 200 OK[^]*?ok){${round * 2 + 2}}$`))
  }
  socket.destroy()
})

test('a caller that goes in the middle of an exchange takes the connection to the app with it', async () => {
  await using silent = await rawApp(() => undefined)
  await using sidecar = await runProxy({
    identity: testIdentity(people.orders, [people.authority.bundle]),
    policy: testPolicy(policyOf(RULES, people.orders)),
    inbound: [{ listen: { host: '127.0.0.1', port: 0 }, app: silent.address, protocol: 'http1' }],
  })
  const arrived = silent.next()
  const socket = await connectAs(people.checkout, sidecar.port)
  socket.write(get('/open/never'))
  const gone = once(await arrived, 'close')
  socket.destroy()
  await gone
  expect((await sidecar.logged(1))[0]).toMatchObject({ close_reason: 'caller', status: 0 })
})

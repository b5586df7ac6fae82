import { once } from 'node:events'
import { connect as connectH2, type IncomingHttpHeaders } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { OutboundTunnel, Route } from '../../sidecar/tunnels.js'
import { testAuthority } from '../support/authority.js'
import { type H2cApp, h2cApp } from '../support/h2c-app.js'
import { OK, type RawApp, rawApp } from '../support/raw-app.js'
import {
  ALLOW_CHECKOUT,
  cast,
  policyOf,
  readAll,
  runProxy,
  type TestProxy,
  testIdentity,
  testPolicy,
} from '../support/running-proxy.js'

const people = cast()
const { authority, orders, checkout, stranger } = people
const listen = { host: '127.0.0.1', port: 0 }
let plain: RawApp
let h2c: H2cApp
let far: TestProxy

beforeAll(async () => {
  // A body that ends in an x goes on.
  plain = await rawApp((text) => (text.endsWith('x') ? undefined : OK))
  h2c = await h2cApp()
  far = await runProxy({
    identity: testIdentity(orders, [authority.bundle]),
    policy: testPolicy(policyOf(ALLOW_CHECKOUT, orders)),
    inbound: [
      { name: 'http1', listen, app: plain.address, protocol: 'http1' },
      { name: 'h2c', listen, app: h2c.address, protocol: 'h2c' },
      { name: 'tcp', listen, app: plain.address, protocol: 'tcp' },
    ],
  })
})

afterAll(async () => {
  await far[Symbol.asyncDispose]()
  await plain[Symbol.asyncDispose]()
  await h2c[Symbol.asyncDispose]()
})

const routeTo = (name: string, changes: Partial<Route> = {}): Route => ({
  host: '*',
  address: { host: '127.0.0.1', port: far.portOf(name) },
  expect: { kind: 'one-of', ids: [orders.id] },
  ...changes,
})

/** A sidecar beside an app that calls others. */
function near(tunnel: Partial<OutboundTunnel>, svid = checkout) {
  return runProxy({
    identity: testIdentity(svid, [authority.bundle]),
    policy: testPolicy(undefined),
    outbound: [{ listen, protocol: 'http', routes: [], ...tunnel }],
  })
}

async function appSocket(port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

async function ask(port: number, text: string): Promise<string> {
  const socket = await appSocket(port)
  socket.write(text)
  return readAll(socket)
}

const get = (path: string, host = 'orders') =>
  `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`

test('a call of the app reaches the app of the peer, in the name of its own SVID', async () => {
  await using sidecar = await near({ routes: [routeTo('http1')] })
  expect(await ask(sidecar.port, get('/orders/7'))).toMatch(/^HTTP\/1\.1 200 OK\r\n[^]*ok$/)
  expect(plain.received()).toContain('GET /orders/7 HTTP/1.1\r\nhost: orders\r\n')
  expect(plain.received()).toContain(`x-countersign-caller: ${checkout.id}\r\n`)
  const [line] = await sidecar.logged(1)
  expect(line).toMatchObject({ caller: checkout.id, to: orders.id, status: 200, path: '/orders/7' })
})

test('many calls share few connections', async () => {
  await using sidecar = await near({ routes: [routeTo('http1')] })
  for (let call = 0; call < 20; call += 1) await ask(sidecar.port, get(`/${call}`))
  expect(sidecar.proxy.connections.size).toBe(1)
})

test('a body sent before there is a connection arrives complete', async () => {
  await using sidecar = await near({ routes: [routeTo('http1')] })
  const body = `${'x'.repeat(300_000)}!`
  const head = `POST /large HTTP/1.1\r\nHost: orders\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n`
  expect(await ask(sidecar.port, head + body)).toMatch(/^HTTP\/1\.1 200 OK/)
  expect(plain.received()).toContain(body)
})

test('the peer’s refusal comes back as the peer has worded it', async () => {
  await using sidecar = await near({ routes: [routeTo('http1')] }, stranger)
  const answer = await ask(sidecar.port, get('/orders/1'))
  expect(answer).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n/)
  const line = (await far.logged(1)).at(-1)
  expect(answer).toContain(`x-countersign-decision: ${String(line?.['decision_id'])}\r\n`)
  expect(line).toMatchObject({ caller: stranger.id, decision: 'deny', reason: 'no-rule' })
})

test('a host finds its own route, and none is 404', async () => {
  const routes = [routeTo('http1', { host: 'orders.test' })]
  await using sidecar = await near({ routes })
  expect(await ask(sidecar.port, get('/', 'Orders.test.:8080'))).toMatch(/^HTTP\/1\.1 200 /)
  const answer = await ask(sidecar.port, get('/', 'other.test'))
  expect(answer).toMatch(/^HTTP\/1\.1 404 Not Found\r\n/)
  expect(answer).toContain('"type":"urn:countersign:no-route"')
  expect((await sidecar.logged(2))[1]).toMatchObject({ failure: 'no-route', status: 404 })
})

test('HTTP/2 of the app is recognised by its preface and goes to the peer as HTTP/2', async () => {
  await using sidecar = await near({ routes: [routeTo('h2c')] })
  const client = connectH2(`http://127.0.0.1:${sidecar.port}`)
  const streams = Array.from({ length: 10 }, (_, at) => {
    const stream = client.request({ ':method': 'POST', ':path': '/echo', te: 'trailers' })
    stream.end(`hello ${at}`)
    return stream
  })
  for (const [at, stream] of streams.entries()) {
    let trailers: IncomingHttpHeaders = {}
    stream.on('trailers', (got) => {
      trailers = got
    })
    let text = ''
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
    })
    await once(stream, 'end')
    expect({ text, sum: trailers['x-sum'] }).toEqual({ text: `hello ${at}`, sum: '7' })
  }
  expect(sidecar.proxy.connections.size).toBe(1)
  client.close()
})

test('HTTP/1.1 of the app reaches a peer whose app speaks HTTP/2', async () => {
  await using sidecar = await near({ routes: [routeTo('h2c')] })
  const answer = await ask(sidecar.port, get('/echo'))
  expect(answer).toMatch(/^HTTP\/1\.1 200 /)
  expect(answer).toContain(`x-caller: ${checkout.id}\r\n`)
})

test('a TCP connection of the app reaches the app of the peer, each direction ending by itself', async () => {
  await using sidecar = await near({ protocol: 'tcp', routes: [routeTo('tcp')] })
  const socket = await appSocket(sidecar.port)
  socket.end('bytes')
  expect(await readAll(socket)).toContain('ok')
  expect((await sidecar.logged(1))[0]).toMatchObject({
    to: orders.id,
    protocol: 'tcp',
    bytes_in: 5,
    close_reason: 'complete',
  })
})

describe('nothing is sent to', () => {
  const foreign = testAuthority('other.test')

  /** Serves as `svid`, and remembers whether a request came. */
  const impostor = (svid: typeof orders) =>
    runProxy({
      identity: testIdentity(svid, [authority.bundle, foreign.bundle]),
      policy: testPolicy(policyOf(ALLOW_CHECKOUT, orders)),
      inbound: [{ listen, app: plain.address, protocol: 'http1' }],
    })

  test.each([
    ['a peer that is another workload', () => stranger, 'CS_PEER_NOT_AUTHORIZED'],
    [
      'a peer of a trust domain without a bundle',
      () => testAuthority('far.test').issueX509({ id: '/x' }),
      'CS_BUNDLE_NOT_FOUND',
    ],
    [
      'a peer whose ID a federated trust domain has signed',
      () => foreign.issueX509({ id: orders.id }),
      'CS_PEER_CHAIN_INVALID',
    ],
  ])('%s', async (_, svid, code) => {
    await using peer = await impostor(svid())
    await using sidecar = await runProxy({
      identity: testIdentity(checkout, [authority.bundle, foreign.bundle]),
      policy: testPolicy(undefined),
      outbound: [
        {
          listen,
          protocol: 'http',
          routes: [routeTo('http1', { address: { host: '127.0.0.1', port: peer.port } })],
        },
      ],
    })
    const before = plain.received().length
    expect(await ask(sidecar.port, get('/secret'))).toMatch(/^HTTP\/1\.1 502 Bad Gateway\r\n/)
    const [line] = await sidecar.logged(1)
    expect(line).toMatchObject({ failure: 'peer-refused', status: 502 })
    expect(String(line?.['failure_detail'])).toContain(code)
    expect(plain.received().length).toBe(before)
  })

  test('an address where nobody listens', async () => {
    const gone = await rawApp()
    await gone[Symbol.asyncDispose]()
    await using sidecar = await near({ routes: [routeTo('http1', { address: gone.address })] })
    expect(await ask(sidecar.port, get('/'))).toMatch(/^HTTP\/1\.1 502 /)
    expect((await sidecar.logged(1))[0]).toMatchObject({ failure: 'upstream-unreachable' })
  })

  test('anybody while there is no SVID to present', async () => {
    const identity = testIdentity(checkout, [authority.bundle])
    await using sidecar = await runProxy({
      identity,
      policy: testPolicy(undefined),
      outbound: [{ listen, protocol: 'http', routes: [routeTo('http1')] }],
    })
    identity.set(undefined)
    expect(await ask(sidecar.port, get('/'))).toMatch(/^HTTP\/1\.1 503 /)
    expect((await sidecar.logged(1))[0]).toMatchObject({ failure: 'no-identity' })
  })
})

test('a member of the expected trust domain is enough where that is asked for', async () => {
  const expectation = { kind: 'member-of', trustDomain: authority.trustDomain } as const
  await using sidecar = await near({ routes: [routeTo('http1', { expect: expectation })] })
  expect(await ask(sidecar.port, get('/'))).toMatch(/^HTTP\/1\.1 200 /)
})

import { once } from 'node:events'
import { connect as connectH2, type IncomingHttpHeaders } from 'node:http2'
import { connect } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { describe, expect, test } from 'vitest'
import { testAuthority } from '../support/authority.js'
import { fakeClock } from '../support/fake-clock.js'
import { h2cApp } from '../support/h2c-app.js'
import { OK, rawApp } from '../support/raw-app.js'
import {
  ALLOW_CHECKOUT,
  cast,
  connectAs,
  limitsWith,
  policyOf,
  readAll,
  runProxy,
  testIdentity,
  testPolicy,
  textReader,
} from '../support/running-proxy.js'

const listen = { host: '127.0.0.1', port: 0 }
const get = (path: string, more = '') => `GET ${path} HTTP/1.1\r\nHost: h\r\n${more}\r\n`

/** A proxy in front of an app, with everything in hand that can change under it. */
async function scene(
  options: {
    readonly protocol?: 'http1' | 'h2c' | 'tcp'
    readonly rules?: string
    readonly respond?: (text: string) => string | undefined
    readonly clock?: ReturnType<typeof fakeClock>
    readonly limits?: ReturnType<typeof limitsWith>
  } = {},
) {
  const { protocol = 'http1', rules = ALLOW_CHECKOUT, clock } = options
  const people = cast(clock ? { now: () => clock.now() } : {})
  const app = await rawApp(options.respond ?? (() => OK))
  const identity = testIdentity(people.orders, [people.authority.bundle])
  const policy = testPolicy(policyOf(rules, people.orders))
  const running = await runProxy({
    identity,
    policy,
    inbound: [{ listen, app: app.address, protocol }],
    ...(clock && { clock }),
    ...(options.limits && { limits: options.limits }),
  })
  return {
    ...people,
    app,
    identity,
    policy,
    running,
    connect: (alpn: readonly string[] = []) => connectAs(people.checkout, running.port, alpn),
    async [Symbol.asyncDispose]() {
      await running[Symbol.asyncDispose]()
      await app[Symbol.asyncDispose]()
    },
  }
}

async function call(socket: TLSSocket, path = '/'): Promise<string> {
  const reader = textReader(socket)
  socket.write(get(path))
  return reader.until(/ok$/)
}

const serialOf = (socket: TLSSocket) => socket.getPeerCertificate().serialNumber.toLowerCase()

describe('a renewed SVID', () => {
  test('is presented to the next caller by the same listener, and no open connection ends', async () => {
    await using house = await scene()
    const before = await house.connect()
    await call(before)
    const renewed = house.authority.issueX509({ id: house.orders.id })
    house.identity.set(renewed)
    const after = await house.connect()
    expect(BigInt(`0x${serialOf(after)}`)).toBe(BigInt(`0x${renewed.chain[0].serialNumber}`))
    expect(BigInt(`0x${serialOf(before)}`)).toBe(BigInt(`0x${house.orders.chain[0].serialNumber}`))
    expect(await call(after)).toContain('200 OK')
    expect(await call(before)).toContain('connection: close')
    before.destroy()
    after.destroy()
  })

  test('loses no request of many callers that go on calling, over HTTP/1.1 and HTTP/2', async () => {
    const people = cast()
    await using app = await rawApp()
    await using h2c = await h2cApp()
    const far = testIdentity(people.orders, [people.authority.bundle])
    const near = testIdentity(people.checkout, [people.authority.bundle])
    await using server = await runProxy({
      identity: far,
      policy: testPolicy(policyOf(ALLOW_CHECKOUT, people.orders)),
      inbound: [
        { name: 'http1', listen, app: app.address, protocol: 'http1' },
        { name: 'h2c', listen, app: h2c.address, protocol: 'h2c' },
      ],
      accessLog: 'off',
    })
    const routeTo = (name: string) => ({
      host: '*',
      address: { host: '127.0.0.1', port: server.portOf(name) },
      expect: { kind: 'one-of', ids: [people.orders.id] } as const,
    })
    await using client = await runProxy({
      identity: near,
      policy: testPolicy(undefined),
      outbound: [
        { name: 'plain', listen, protocol: 'http', routes: [routeTo('http1')] },
        { name: 'session', listen, protocol: 'http', routes: [routeTo('h2c')] },
      ],
      accessLog: 'off',
    })
    const enough = new AbortController()
    const statuses: unknown[] = []
    const http1 = async () => {
      while (!enough.signal.aborted) {
        const socket = connect(client.portOf('plain'), '127.0.0.1')
        socket.write(get('/x', 'Connection: close\r\n'))
        statuses.push((await readAll(socket)).slice(9, 12))
      }
    }
    const http2 = async () => {
      const session = connectH2(`http://127.0.0.1:${client.portOf('session')}`)
      while (!enough.signal.aborted) {
        const stream = session.request({ ':path': '/x' })
        stream.resume()
        const [headers] = (await once(stream, 'response')) as [IncomingHttpHeaders]
        await once(stream, 'end')
        statuses.push(String(headers[':status']))
      }
      session.close()
    }
    const callers = [http1(), http1(), http1(), http2(), http2(), http2()]
    for (let turn = 0; turn < 10; turn += 1) {
      const done = statuses.length
      await expect.poll(() => statuses.length - done, { timeout: 10_000 }).toBeGreaterThan(20)
      far.set(people.authority.issueX509({ id: people.orders.id }))
      near.set(people.authority.issueX509({ id: people.checkout.id }))
    }
    enough.abort()
    await Promise.all(callers)
    expect(new Set(statuses)).toEqual(new Set(['200']))
  })
})

describe('an open connection is cut', () => {
  test('when the bundle that vouched for its peer is gone', async () => {
    await using house = await scene()
    const foreign = testAuthority('other.test')
    const socket = await house.connect()
    await call(socket)
    const closed = once(socket, 'close')
    house.identity.setBundles([foreign.bundle])
    await closed
    expect(house.running.proxy.connections.size).toBe(0)
  })

  test('not when another bundle is gone', async () => {
    await using house = await scene()
    const foreign = testAuthority('other.test')
    house.identity.setBundles([house.authority.bundle, foreign.bundle])
    const socket = await house.connect()
    await call(socket)
    house.identity.setBundles([house.authority.bundle])
    expect(await call(socket)).toContain('200 OK')
    socket.destroy()
  })

  test('when the own identity is withdrawn, and no new one is let in', async () => {
    await using house = await scene()
    const socket = await house.connect()
    await call(socket)
    const closed = once(socket, 'close')
    house.identity.set(undefined)
    await closed
    const late = await house.connect()
    if (!late.destroyed) await once(late, 'close')
  })

  test('when the SVID of its peer expires', async () => {
    const clock = fakeClock()
    await using house = await scene({ clock })
    const brief = house.authority.issueX509({ id: house.checkout.id, ttlMs: 60_000 })
    const socket = await connectAs(brief, house.running.port)
    await call(socket)
    const closed = once(socket, 'close')
    await clock.advance(61_000)
    await closed
  })

  test('in the middle of a request that the policy does not allow any more', async () => {
    await using house = await scene({ respond: () => undefined })
    const socket = await house.connect()
    const arrived = house.app.next()
    socket.write(get('/slow'))
    const appSide = await arrived
    const closed = Promise.all([once(socket, 'close'), once(appSide, 'close')])
    house.policy.set(
      policyOf(
        '- { name: nobody, action: deny, from: [{ any: true }], reason: test }',
        house.orders,
        2,
      ),
    )
    await closed
    expect((await house.running.logged(1))[0]).toMatchObject({ close_reason: 'policy' })
  })
})

test('a request on a kept connection is decided by the policy of its own moment', async () => {
  await using house = await scene()
  const socket = await house.connect()
  await call(socket)
  house.policy.set(policyOf('- { name: other, from: [{ app: other }] }', house.orders, 2))
  const reader = textReader(socket)
  socket.write(get('/'))
  expect(await reader.until(/}$/)).toContain('403 Forbidden')
  house.policy.set(policyOf(ALLOW_CHECKOUT, house.orders, 3))
  expect(await call(socket)).toContain('200 OK')
  socket.destroy()
})

test('without any policy everything is denied, and the log says why', async () => {
  await using house = await scene()
  house.policy.set(undefined)
  const socket = await house.connect()
  socket.write(get('/', 'Connection: close\r\n'))
  expect(await readAll(socket)).toContain('403 Forbidden')
  expect((await house.running.logged(1))[0]).toMatchObject({ reason: 'no-snapshot' })
  expect(house.app.received()).toBe('')
})

describe('a caller without a verified identity is denied, and the log says why', () => {
  const foreign = testAuthority('other.test')
  const people = cast()
  const { authority } = people

  test.each([
    ['no certificate', undefined, 'no-certificate'],
    [
      'a trust domain without a bundle',
      testAuthority('far.test').issueX509({ id: '/x' }),
      'unknown-trust-domain',
    ],
    [
      'an ID signed by a federated trust domain',
      foreign.issueX509({ id: people.checkout.id }),
      'chain-invalid',
    ],
    [
      'an expired SVID',
      authority.issueX509({
        id: '/ns/shop/sa/checkout',
        notBefore: new Date(Date.now() - 7_200_000),
        notAfter: new Date(Date.now() - 3_600_000),
      }),
      'svid-expired',
    ],
  ])('%s', async (_, svid, detail) => {
    await using app = await rawApp()
    await using running = await runProxy({
      identity: testIdentity(people.orders, [authority.bundle, foreign.bundle]),
      policy: testPolicy(policyOf(ALLOW_CHECKOUT, people.orders)),
      inbound: [{ listen, app: app.address, protocol: 'http1' }],
    })
    const socket = await connectAs(svid, running.port)
    socket.write(get('/', 'Connection: close\r\n'))
    expect(await readAll(socket)).toContain('403 Forbidden')
    expect((await running.logged(1))[0]).toMatchObject({ reason: 'unauthenticated', detail })
    expect(app.received()).toBe('')
  })
})

describe('a TCP connection', () => {
  test('that no rule names is reset, and the app sees nothing of it', async () => {
    await using house = await scene({
      protocol: 'tcp',
      rules: '- { name: http, from: [{ app: checkout }], to: [{ paths: ["/{**}"] }] }',
    })
    const socket = await house.connect()
    const error = once(socket, 'error')
    socket.write('bytes')
    expect(await error).toMatchObject([{ code: 'ECONNRESET' }])
    expect(house.app.connections).toBe(0)
    expect((await house.running.logged(1))[0]).toMatchObject({ protocol: 'tcp', decision: 'deny' })
  })

  test('ends in each direction by itself', async () => {
    await using house = await scene({ protocol: 'tcp', respond: (text) => `echo ${text}` })
    const socket = await house.connect()
    const reader = textReader(socket)
    socket.write('one')
    await reader.until('echo one')
    socket.write('two')
    socket.end()
    await once(socket, 'end')
    expect(reader.text()).toBe('echo oneecho two')
    expect((await house.running.logged(1))[0]).toMatchObject({
      close_reason: 'complete',
      bytes_in: 6,
      bytes_out: 16,
    })
  })

  test('is cut when the policy stops allowing it', async () => {
    await using house = await scene({ protocol: 'tcp', respond: (text) => text })
    const socket = await house.connect()
    const reader = textReader(socket)
    socket.write('x')
    await reader.until('x')
    const closed = once(socket, 'close')
    house.policy.set(policyOf('- { name: other, from: [{ app: other }] }', house.orders, 2))
    await closed
    expect((await house.running.logged(1))[0]).toMatchObject({ close_reason: 'policy' })
    expect(await house.running.metrics.text()).toMatch(
      /countersign_authz_tcp_terminated_total\{[^}]*\} 1/,
    )
  })

  test('is cut when the rule that allows it expires', async () => {
    const clock = fakeClock(new Date('2026-11-20T12:00:00Z'))
    const rules =
      '- { name: brief, from: [{ app: checkout }], to: [{ tcp: true }], expires: 2026-11-20T12:01:00Z }'
    await using house = await scene({ protocol: 'tcp', rules, clock, respond: (text) => text })
    const socket = await house.connect()
    const reader = textReader(socket)
    socket.write('x')
    await reader.until('x')
    const closed = once(socket, 'close')
    await clock.advance(61_000)
    await closed
  })

  test('that is half closed gets its time and no more', async () => {
    const clock = fakeClock()
    await using house = await scene({ protocol: 'tcp', clock, respond: () => undefined })
    const arrived = house.app.next()
    const socket = await house.connect()
    const appSide = await arrived
    appSide.removeAllListeners('end')
    socket.end()
    await once(appSide.resume(), 'end')
    const closed = once(socket, 'close')
    await clock.advance(59_000)
    expect(socket.destroyed).toBe(false)
    await clock.advance(2000)
    await closed
    expect((await house.running.logged(1))[0]).toMatchObject({ close_reason: 'idle' })
  })
})

describe('what takes too long ends', () => {
  test('a head that comes too slowly, with 408', async () => {
    const clock = fakeClock()
    await using house = await scene({ clock })
    const socket = await house.connect()
    const reader = textReader(socket)
    socket.write(`${get('/whole')}GET /part HTTP/1.1\r\n`)
    await reader.until(/ok$/)
    await clock.advance(11_000)
    expect(await reader.until('decision_id')).toContain('HTTP/1.1 408 ')
    expect(house.app.received()).not.toContain('/part')
  })

  test('a connection on which nothing is asked', async () => {
    const clock = fakeClock()
    await using house = await scene({ clock })
    const socket = await house.connect()
    await call(socket)
    const ended = once(socket, 'end')
    await clock.advance(76_000)
    await ended
  })

  test('an app that does not answer, with 504', async () => {
    const clock = fakeClock()
    await using house = await scene({ clock, respond: () => undefined })
    const socket = await house.connect()
    const reading = readAll(socket)
    const arrived = house.app.next()
    socket.write(get('/'))
    await arrived
    await clock.advance(301_000)
    expect(await reading).toMatch(/^HTTP\/1\.1 504 /)
    expect((await house.running.logged(1))[0]).toMatchObject({ failure: 'upstream-timeout' })
  })

  test('a caller that does not take note of a refusal', async () => {
    const clock = fakeClock()
    await using house = await scene({ clock })
    const socket = await house.connect()
    socket.write('nonsense\r\n\r\n')
    await textReader(socket).until('decision_id')
    const closed = once(socket, 'close')
    await clock.advance(3000)
    await closed
  })
})

describe('limits', () => {
  test('one caller may hold so many connections, and another still gets in', async () => {
    await using house = await scene({
      limits: limitsWith({ connection: { connectionsPerCaller: 2 } }),
    })
    const held = [await house.connect(), await house.connect()]
    for (const socket of held) await call(socket)
    const third = await house.connect()
    if (!third.destroyed) await once(third, 'close')
    const other = await connectAs(house.stranger, house.running.port)
    other.write(get('/', 'Connection: close\r\n'))
    expect(await readAll(other)).toContain('403 Forbidden')
    expect(await house.running.metrics.text()).toContain('reason="too-many-of-caller"} 1')
    for (const socket of held) socket.destroy()
  })

  test('one address may open so many connections at once', async () => {
    await using house = await scene({
      limits: limitsWith({ connection: { connectBurst: 2, connectRate: 0 } }),
    })
    await call(await house.connect())
    await call(await house.connect())
    await expect(house.connect()).rejects.toThrow()
    expect(await house.running.metrics.text()).toContain('reason="connect-rate"} 1')
  })

  test('the app is asked over so many connections', async () => {
    await using house = await scene({
      limits: limitsWith({ connection: { upstreamConnections: 1 } }),
      respond: () => undefined,
    })
    const arrived = house.app.next()
    const first = await house.connect()
    first.write(get('/slow'))
    await arrived
    const second = await house.connect()
    second.write(get('/', 'Connection: close\r\n'))
    expect(await readAll(second)).toMatch(/^HTTP\/1\.1 503 /)
    expect((await house.running.logged(1))[0]).toMatchObject({ failure: 'upstream-busy' })
    first.destroy()
  })
})

describe('a drain', () => {
  test('lets the request under way end, takes no other, and says whether all ended', async () => {
    let answer: ((text: string) => void) | undefined
    await using house = await scene({ respond: () => undefined })
    const arrived = house.app.next()
    const idle = await house.connect()
    const busy = await house.connect()
    const reading = readAll(busy)
    busy.write(get('/slow'))
    const appSide = await arrived
    await once(appSide, 'data')
    answer = (text) => void appSide.write(text)
    const closing = house.running.proxy.close(30_000)
    await once(idle.resume(), 'end')
    await expect(house.connect()).rejects.toThrow()
    answer(OK)
    expect(await closing).toBe(true)
    expect(await reading).toMatch(/^HTTP\/1\.1 200 OK\r\n[^]*connection: close\r\n/)
  })

  test('cuts what has not ended in time', async () => {
    await using house = await scene({ respond: () => undefined })
    const arrived = house.app.next()
    const socket = await house.connect()
    const closed = once(socket, 'close')
    socket.write(get('/never'))
    await arrived
    expect(await house.running.proxy.close(50)).toBe(false)
    await closed
  })
})

describe('nonsense on the listener', () => {
  test.each([
    ['random bytes', Buffer.from('8f3a1c77d9e2b4', 'hex')],
    ['HTTP without TLS', Buffer.from('GET / HTTP/1.1\r\nHost: h\r\n\r\n')],
  ])('%s disturb nobody', async (_, bytes) => {
    await using house = await scene()
    const socket = plainSocket(house.running.port)
    socket.end(bytes)
    await once(socket.resume(), 'close')
    expect(await call(await house.connect())).toContain('200 OK')
  })

  test.each([
    ['half a handshake', Buffer.from('16030100', 'hex')],
    ['nothing at all', Buffer.alloc(0)],
  ])('%s is waited for so long', async (_, bytes) => {
    const clock = fakeClock()
    await using house = await scene({ clock })
    const socket = plainSocket(house.running.port)
    socket.write(bytes)
    await once(socket, 'connect')
    const closed = once(socket.resume(), 'close')
    // Nothing tells when the listener has seen it.
    while (!socket.destroyed) await clock.advance(11_000)
    await closed
    await expect
      .poll(() => house.running.metrics.text())
      .toMatch(/handshake_failures_total\{[^}]*reason="timeout"\} 1/)
    expect(await call(await house.connect())).toContain('200 OK')
  })
})

function plainSocket(port: number) {
  return connect(port, '127.0.0.1').on('error', () => {})
}

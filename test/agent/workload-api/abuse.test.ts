import { once } from 'node:events'
import * as http2 from 'node:http2'
import { connect, type Socket } from 'node:net'
import { status } from '@grpc/grpc-js'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { fakeAttestation } from '../../support/fake-attestation.js'
import { fakeClock } from '../../support/fake-clock.js'
import { fakeIdentities } from '../../support/fake-identities.js'
import { answer, localClient, received, security } from '../../support/local-client.js'
import { type TestEndpoint, testEndpoint } from '../../support/local-endpoint.js'
import { until } from '../../support/until.js'

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
const EMPTY_SETTINGS = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])
const entries = [{ path: '/web', selectors: ['unix:uid:1000'] }]

async function open(path: string): Promise<Socket> {
  const socket = connect(path)
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  return socket
}

const closed = (socket: Socket) =>
  socket.closed ? Promise.resolve() : once(socket.resume(), 'close').then(() => undefined)

/** Somebody who behaves is served all the same. */
async function serves(endpoint: TestEndpoint): Promise<void> {
  using client = localClient(endpoint.path)
  const stream = received(client.workload.fetchX509Svid({}, security()))
  expect((await stream.next()).svids).toHaveLength(1)
  stream.cancel()
}

describe('bytes that are not HTTP/2', () => {
  test.each([
    ['nothing but zeros', Buffer.alloc(4096)],
    ['an HTTP/1.1 request', Buffer.from('GET / HTTP/1.1\r\nhost: a\r\n\r\n')],
    ['a TLS greeting', Buffer.from('16030100c8010000c40303', 'hex')],
    ['a preface and a frame too long', Buffer.from(`${PREFACE}\xff\xff\xff\x04\x00`, 'latin1')],
    [
      'headers that are no HPACK',
      Buffer.concat([
        Buffer.from(PREFACE),
        EMPTY_SETTINGS,
        Buffer.from([0, 0, 4, 1, 5, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]),
      ]),
    ],
  ])('cost the caller its connection: %s', async (_, bytes) => {
    const identities = fakeIdentities({ entries })
    // Node keeps a connection on which HPACK failed until it is idle.
    const limits = { idleMs: 50 }
    await using endpoint = await testEndpoint({
      identities,
      attestation: fakeAttestation(),
      limits,
    })
    const socket = await open(endpoint.path)
    socket.end(bytes)
    await closed(socket)
    await serves(endpoint)
  })

  test('disturb nobody, whatever they are and wherever they stop', async () => {
    const identities = fakeIdentities({ entries })
    const attestation = fakeAttestation()
    await using endpoint = await testEndpoint({ identities, attestation, limits: { idleMs: 50 } })
    const anything = fc.uint8Array({ maxLength: 600 })
    await fc.assert(
      fc.asyncProperty(anything, fc.boolean(), fc.boolean(), async (bytes, greet, goOn) => {
        const socket = await open(endpoint.path)
        if (greet) socket.write(Buffer.concat([Buffer.from(PREFACE), EMPTY_SETTINGS]))
        await new Promise<void>((resolve) => socket.write(bytes, () => resolve()))
        if (goOn) socket.end()
        else socket.destroy()
        await closed(socket)
      }),
      { numRuns: 150, seed: 20261120 },
    )
    await serves(endpoint)
    await until(() => attestation.held === 0)
  })

  test('in a message are refused, and the connection goes on', async () => {
    const identities = fakeIdentities({ entries })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 100 }), async (bytes) => {
        const call = answer((done) =>
          endpoint.client.workload.makeUnaryRequest(
            '/SpiffeWorkloadAPI/ValidateJWTSVID',
            () => Buffer.from(bytes),
            (reply) => reply,
            {},
            security(),
            done,
          ),
        )
        await expect(call).rejects.toHaveProperty('code')
      }),
      { numRuns: 100, seed: 20261120 },
    )
    await serves(endpoint)
  })
})

describe('a connection that says nothing', () => {
  test.each([
    ['at all', Buffer.alloc(0)],
    ['but half of the preface', Buffer.from(PREFACE.slice(0, 12))],
    ['after the preface', Buffer.from(PREFACE)],
  ])('is closed when its time is up: nothing %s', async (_, bytes) => {
    const clock = fakeClock()
    const attestation = fakeAttestation()
    await using endpoint = await testEndpoint({ attestation, clock })
    const socket = await open(endpoint.path)
    socket.write(bytes)
    await until(() => attestation.held === 1)
    await clock.advance(9_999)
    expect(socket.closed).toBe(false)
    await clock.advance(1)
    await closed(socket)
    expect(attestation.held).toBe(0)
  })

  test('is left alone when it has greeted', async () => {
    const clock = fakeClock()
    const identities = fakeIdentities({ entries })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation(), clock })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    await stream.next()
    await clock.advance(20_000)
    identities.issue()
    await expect(stream.next()).resolves.toBeDefined()
  })

  test('is closed when it has no call for as long as it may be idle', async () => {
    const attestation = fakeAttestation()
    await using endpoint = await testEndpoint({ attestation, limits: { idleMs: 30 } })
    const session = http2.connect('http://agent', {
      createConnection: () => connect(endpoint.path),
    })
    session.on('error', () => undefined)
    await once(session, 'close')
    await until(() => attestation.held === 0)
  })
})

describe('limits', () => {
  test('a message longer than allowed is refused', async () => {
    const identities = fakeIdentities({ entries })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const svid = 'a'.repeat(64 * 1024)
    const call = answer((done) =>
      endpoint.client.workload.validateJwtsvid({ audience: 'a', svid }, security(), done),
    )
    await expect(call).rejects.toMatchObject({ code: status.RESOURCE_EXHAUSTED })
    await serves(endpoint)
  })

  test('a message that only claims to be longer is refused before it is there', async () => {
    const identities = fakeIdentities({ entries })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const session = http2.connect('http://agent', {
      createConnection: () => connect(endpoint.path),
    })
    session.on('error', () => undefined)
    const call = session.request({
      ':method': 'POST',
      ':path': '/SpiffeWorkloadAPI/ValidateJWTSVID',
      'content-type': 'application/grpc',
      te: 'trailers',
      'workload.spiffe.io': 'true',
    })
    call.on('error', () => undefined)
    call.write(Buffer.from([0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]))
    const [headers] = await once(call, 'response')
    expect(Number(headers['grpc-status'])).toBe(status.RESOURCE_EXHAUSTED)
    session.destroy()
    await serves(endpoint)
  })

  test('headers larger than allowed are refused before the caller is looked at', async () => {
    const identities = fakeIdentities({ entries })
    const attestation = fakeAttestation()
    await using endpoint = await testEndpoint({ identities, attestation })
    const metadata = security()
    for (let at = 0; at < 3; at += 1) metadata.set(`x-${at}`, 'v'.repeat(4096))
    const stream = received(endpoint.client.workload.fetchX509Svid({}, metadata))
    expect((await stream.ended).code).toBe(status.RESOURCE_EXHAUSTED)
    expect(attestation.looks).toBe(0)
    await serves(endpoint)
  })

  test('more headers than HTTP/2 takes by default cost the call', async () => {
    const identities = fakeIdentities({ entries })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const metadata = security()
    for (let at = 0; at < 300; at += 1) metadata.set(`x-${at}`, 'v')
    const stream = received(endpoint.client.workload.fetchX509Svid({}, metadata))
    expect((await stream.ended).code).not.toBe(status.OK)
    await serves(endpoint)
  })

  test('a user has no more calls open than allowed, over all connections', async () => {
    const identities = fakeIdentities({ entries })
    await using endpoint = await testEndpoint({
      identities,
      attestation: fakeAttestation(),
      limits: { callsPerUser: 3 },
    })
    using other = localClient(endpoint.path)
    const streams = [endpoint.client, endpoint.client, other].map(({ workload }) =>
      received(workload.fetchX509Svid({}, security())),
    )
    await Promise.all(streams.map((stream) => stream.next()))
    const fourth = received(other.workload.fetchX509Svid({}, security()))
    expect((await fourth.ended).code).toBe(status.RESOURCE_EXHAUSTED)
    streams[0]!.cancel()
    await until(() => endpoint.endpoints.streams() === 2)
    await serves(endpoint)
  })

  test('a connection has no more streams at a time than allowed', async () => {
    const identities = fakeIdentities({ entries })
    await using endpoint = await testEndpoint({
      identities,
      attestation: fakeAttestation(),
      limits: { streamsPerConnection: 4 },
    })
    const open = () => received(endpoint.client.workload.fetchX509Svid({}, security()))
    const first = open()
    await first.next()
    const streams = Array.from({ length: 3 }, open)
    await Promise.all(streams.map((stream) => stream.next()))
    // Node refuses or holds back what goes beyond, by its version.
    const beyond = [open(), open()]
    await new Promise((resolve) => setImmediate(resolve))
    identities.issue()
    await Promise.all([first, ...streams].map((stream) => stream.next()))
    expect(endpoint.endpoints.streams()).toBe(4)
    expect(beyond.map((stream) => stream.waiting())).toEqual([0, 0])
  })

  test.each([
    ['a user', { connectionsPerUser: 3 }],
    ['all users', { connections: 3 }],
  ])(
    '%s has no more connections than allowed, and others are closed at once',
    async (_, limits) => {
      const identities = fakeIdentities({ entries })
      const attestation = fakeAttestation()
      await using endpoint = await testEndpoint({ identities, attestation, limits })
      const sockets = await Promise.all(Array.from({ length: 3 }, () => open(endpoint.path)))
      await until(() => attestation.held === 3)
      const fourth = await open(endpoint.path)
      await closed(fourth)
      expect(attestation.held).toBe(3)
      sockets[0]!.destroy()
      await until(() => attestation.held === 2)
      await serves(endpoint)
      for (const socket of sockets) socket.destroy()
    },
  )

  test('two thousand calls on one connection leave nothing behind', async () => {
    const identities = fakeIdentities({ entries })
    const attestation = fakeAttestation()
    await using endpoint = await testEndpoint({ identities, attestation })
    const call = async () => {
      const { workload } = endpoint.client
      const request = { audience: ['orders'], spiffeId: 'spiffe://prod.example/other' }
      await answer((done) => workload.fetchJwtsvid(request, security(), done)).catch(
        () => undefined,
      )
    }
    for (let round = 0; round < 10; round += 1) {
      await Promise.all(Array.from({ length: 200 }, call))
    }
    expect(attestation.held).toBe(1)
    expect(endpoint.endpoints.streams()).toBe(0)
    await serves(endpoint)
  })
})

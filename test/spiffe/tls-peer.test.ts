import { constants } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type AddressInfo } from 'node:net'
import { connect, createServer, type TLSSocket } from 'node:tls'
import { afterEach, describe, expect, test } from 'vitest'
import { authorize, parseSpiffeId, type X509Svid } from '../../spiffe/index.js'
import {
  presentedChain,
  secureContextOf,
  serverTlsOptions,
  verifyTlsPeer,
} from '../../spiffe/tls/index.js'
import { makeCa, makeIntermediate, type TestCa, testAuthority } from '../support/authority.js'
import { name } from '../support/certificate.js'
import {
  a,
  b,
  client,
  closeAll,
  closeLater,
  codeOfDial,
  dial,
  forge,
  identity,
  now,
  presenting,
  SERVER_ID,
  serve,
  server,
  verifier,
} from './tls-world.js'

afterEach(closeAll)

test('two workloads learn who the other is, and talk', async () => {
  const { port, next } = await serve(server)
  const { socket, peer } = await dial(port, { authorize: authorize.id(SERVER_ID) })
  expect(peer.id).toBe(SERVER_ID)
  expect(await next()).toMatchObject({ peer: { id: client.id } })
  const [greeting] = (await once(socket, 'data')) as [Buffer]
  expect(greeting.toString()).toBe('hello')
  expect(socket.getProtocol()).toBe('TLSv1.3')
})

test('workloads of two trust domains learn who the other is', async () => {
  const { port, next } = await serve(b.issueX509({ id: '/server' }))
  expect((await dial(port)).peer.id).toBe('spiffe://b.example/server')
  expect(await next()).toMatchObject({ peer: { id: client.id } })
})

test('a server learns nothing of a client without identity, and may refuse it', async () => {
  const { port, next } = await serve(server)
  const { peer } = await dial(port, { identity: undefined })
  expect(peer.id).toBe(SERVER_ID)
  expect(await next()).toEqual({ code: 'CS_PEER_NOT_SPIFFE' })
})

describe('ID-29 TRAP-5 a CA of trust domain b signs names of trust domain a, and both bundles are held', () => {
  const forged = forge(b.issuer, 'spiffe://a.example/server')

  test('the client refuses such a server', async () => {
    const { port } = await serve(forged)
    expect(await codeOfDial(port)).toBe('CS_PEER_CHAIN_INVALID')
  })

  test('the server refuses such a client', async () => {
    const { port, next } = await serve(server)
    void codeOfDial(port, { identity: identity(forged) })
    expect(await next()).toEqual({ code: 'CS_PEER_CHAIN_INVALID' })
  })

  test('TLS itself would let both through with a pool of roots', async () => {
    const ca = [a, b].map(({ root }) => pemOf(root.certificate.der))
    const { port } = await serve(forged)
    const socket = connect({
      host: '127.0.0.1',
      port,
      ...secureContextOf(client),
      ca,
      checkServerIdentity: () => undefined,
    })
    closeLater(() => socket.destroy())
    socket.on('error', () => {})
    await once(socket, 'secureConnect')
    expect(socket.authorized).toBe(true)
  })
})

const pemOf = (der: Uint8Array) =>
  `-----BEGIN CERTIFICATE-----\n${Buffer.from(der).toString('base64')}\n-----END CERTIFICATE-----\n`

describe('refuses', () => {
  const stranger = testAuthority('c.example')
  const cases: readonly (readonly [string, () => X509Svid, string])[] = [
    [
      'X509-40 a trust domain without a bundle',
      () => stranger.issueX509({ id: '/server' }),
      'CS_BUNDLE_NOT_FOUND',
    ],
    [
      'X509-33 an authority with the right name and another key',
      () => forge(testAuthority('a.example').issuer, SERVER_ID),
      'CS_PEER_CHAIN_INVALID',
    ],
    [
      'X509-5 X509-14 a CA as peer',
      () => forge(a.issuer, SERVER_ID, { ca: true }),
      'CS_X509_SVID_INVALID',
    ],
    [
      'X509-33 an expired leaf',
      () => forge(a.issuer, SERVER_ID, { notAfter: Date.now() - 1000 }),
      'CS_SVID_EXPIRED',
    ],
    [
      'X509-38 a certificate without a SPIFFE ID',
      () => forge(a.issuer, 'https://a.example/server'),
      'CS_PEER_NOT_SPIFFE',
    ],
    [
      'X509-39 the ID of a trust domain',
      () => forge(a.issuer, 'spiffe://a.example'),
      'CS_X509_SVID_INVALID',
    ],
    [
      'X509-33 a missing intermediate',
      () => presenting([forge(a.issuer, SERVER_ID).chain[0].der]),
      'CS_PEER_CHAIN_INVALID',
    ],
  ]

  test.each(cases)('%s, as a server', async (_, svid, code) => {
    const { port } = await serve(svid())
    expect(await codeOfDial(port)).toBe(code)
  })

  test.each(cases)('%s, as a client', async (_, svid, code) => {
    const { port, next } = await serve(server)
    void codeOfDial(port, { identity: identity(svid()) })
    expect(await next()).toEqual({ code })
  })

  test('a server that is not the one expected', async () => {
    const { port } = await serve(server)
    const options = { authorize: authorize.id(parseSpiffeId('spiffe://a.example/other')) }
    expect(await codeOfDial(port, options)).toBe('CS_PEER_NOT_AUTHORIZED')
  })

  test('TLS 1.2', async () => {
    const { port } = await serve(server)
    const socket = connect({
      host: '127.0.0.1',
      port,
      rejectUnauthorized: false,
      maxVersion: 'TLSv1.2',
    })
    const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException]
    expect(error.code).toContain('TLSV1_ALERT_PROTOCOL_VERSION')
  })
})

describe('NT-05 TRAP-7 a resumed session', () => {
  /** A server that hands out tickets, as ours never does. */
  const resuming = { secureOptions: 0, ticketKeys: Buffer.alloc(48, 7) }

  const secondSession = async (port: number) => {
    const options = {
      host: '127.0.0.1',
      port,
      ...secureContextOf(client),
      secureOptions: 0,
      rejectUnauthorized: false,
    }
    const first = connect(options)
    closeLater(() => first.destroy())
    const [session] = (await once(first, 'session')) as [Buffer]
    first.destroy()
    const second = connect({ ...options, session })
    closeLater(() => second.destroy())
    second.on('error', () => {})
    await once(second, 'secureConnect')
    return second
  }

  test('is refused by a server', async () => {
    const { port, next } = await serve(server, resuming)
    const second = await secondSession(port)
    expect(await next()).toMatchObject({ peer: { id: client.id } })
    expect(second.isSessionReused()).toBe(true)
    expect(await next()).toEqual({ code: 'CS_PEER_NOT_SPIFFE' })
  })

  test('is refused by a client', async () => {
    const { port } = await serve(server, resuming)
    const second = await secondSession(port)
    expect(() => verifyTlsPeer(second, { verifier, now: now(), usage: 'server' })).toThrow(
      'resumed',
    )
  })

  test('cannot be had from our own settings', async () => {
    const { port, next } = await serve(server)
    const second = await secondSession(port)
    expect(second.isSessionReused()).toBe(false)
    expect([await next(), await next()]).toMatchObject([{ peer: {} }, { peer: {} }])
  })
})

describe('NT-03 what the peer presents', () => {
  test('comes with every intermediate, on both sides', async () => {
    const middle = makeIntermediate({
      trustDomain: a.trustDomain,
      parent: a.issuer,
      now: Date.now(),
    })
    // The name of the second intermediate has to differ, or it would seem to be its own issuer.
    const renamed = { ...middle.issuer, subject: name('second issuer') }
    const second: TestCa = {
      issuer: renamed,
      certificate: makeCa({
        trustDomain: a.trustDomain,
        issuer: renamed,
        signedBy: a.issuer.issuer,
        now: Date.now(),
        lifeMs: 1e7,
      }),
    }
    const deep = forge(second, SERVER_ID)
    const svid = presenting([...deep.chain.map(({ der }) => der), a.issuer.certificate.der])
    const { port, next } = await serve(svid)
    const { peer } = await dial(port, { identity: identity(svid) })
    expect(peer.path).toHaveLength(4)
    const verdict = await next()
    expect('peer' in verdict && verdict.peer.path.length).toBe(4)
  })

  test('is nothing without a certificate', async () => {
    const listener = createServer(serverTlsOptions(server))
    listener.listen(0, '127.0.0.1')
    await once(listener, 'listening')
    closeLater(() => listener.close())
    const { port } = listener.address() as AddressInfo
    const connection = dial(port, { identity: undefined })
    const [socket] = (await once(listener, 'secureConnection')) as [TLSSocket]
    closeLater(() => socket.destroy())
    expect(presentedChain(socket)).toEqual([])
    expect(socket.authorized).toBe(false)
    await connection
  })

  test('ends at a self-signed certificate that comes along', async () => {
    const svid = presenting([
      ...forge(a.issuer, SERVER_ID).chain.map(({ der }) => der),
      a.root.certificate.der,
    ])
    const { port } = await serve(svid)
    expect((await dial(port)).peer.path).toHaveLength(3)
  })
})

test('NT-06 a listener presents a new SVID as soon as it is given one', async () => {
  const listener = createServer(serverTlsOptions(server))
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  closeLater(() => listener.close())
  const { port } = listener.address() as AddressInfo
  expect((await dial(port)).peer.id).toBe(SERVER_ID)
  listener.setSecureContext(secureContextOf(a.issueX509({ id: '/renamed' })))
  expect((await dial(port)).peer.id).toBe('spiffe://a.example/renamed')
})

test('the settings trust no root, ask for a certificate and resume nothing', () => {
  const options = serverTlsOptions(server)
  expect(options).toMatchObject({
    ca: [],
    requestCert: true,
    rejectUnauthorized: false,
    minVersion: 'TLSv1.3',
    secureOptions: constants.SSL_OP_NO_TICKET,
    handshakeTimeout: 10_000,
  })
  expect(secureContextOf(undefined)).not.toHaveProperty('key')
})

test('nothing in the library reads what TLS thinks of a peer', () => {
  for (const file of ['connect', 'context', 'peer']) {
    const text = readFileSync(new URL(`../../spiffe/tls/${file}.ts`, import.meta.url), 'utf8')
    expect(text).not.toMatch(/\.authorized|getPeerX509Certificate/)
  }
})

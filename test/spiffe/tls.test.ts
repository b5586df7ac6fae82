import { constants } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type AddressInfo, connect as connectTcp, createServer as createTcpServer } from 'node:net'
import { connect, createServer, type TLSSocket, type TlsOptions } from 'node:tls'
import { afterEach, describe, expect, test } from 'vitest'
import {
  authorize,
  bundleSet,
  type PeerVerifier,
  parseCertificate,
  parseSpiffeId,
  peerVerifier,
  SpiffeError,
  type VerifiedPeer,
  type X509Svid,
} from '../../spiffe/index.js'
import {
  type ConnectTlsOptions,
  connectTls,
  presentedChain,
  secureContextOf,
  serverTlsOptions,
  verifyTlsPeer,
} from '../../spiffe/tls/index.js'
import { makeCa, makeIntermediate, type TestCa, testAuthority } from '../support/authority.js'
import { extension, makeCertificate, name, publicKeyInfoOf } from '../support/certificate.js'
import { tempFolder } from '../support/temp-folder.js'
import { CERT_SIGN, CRL_SIGN, keys } from './x509-world.js'

const now = () => new Date()
const a = testAuthority('a.example')
const b = testAuthority('b.example')
/** Both bundles are held by everybody: what a pool of all roots would let through must still be refused. */
const verifier = peerVerifier({ bundles: bundleSet([a.bundle, b.bundle]) })

const client = a.issueX509({ id: '/client' })
const server = a.issueX509({ id: '/server' })
const SERVER_ID = parseSpiffeId('spiffe://a.example/server')

/** An SVID put together by hand: what `parseX509Svid` would refuse, a peer can still present. */
function presenting(chain: readonly Uint8Array[], { privateKey } = keys('tls')): X509Svid {
  const [leaf, ...others] = chain.map(parseCertificate)
  return { id: SERVER_ID, chain: [leaf!, ...others], privateKey }
}

/** A certificate for any ID, signed by any authority. */
function forge(
  issuer: TestCa,
  id: string,
  extra: { ca?: boolean; notAfter?: number } = {},
): X509Svid {
  const leaf = makeCertificate({
    subject: name('forged'),
    publicKeyInfo: publicKeyInfoOf(keys('tls').publicKey),
    issuer: issuer.issuer,
    notBefore: Date.now() - 3_600_000,
    notAfter: extra.notAfter ?? Date.now() + 3_600_000,
    extensions: [
      extension.basicConstraints(extra.ca ?? false),
      extension.keyUsage(extra.ca ? CERT_SIGN | CRL_SIGN : 1),
      extension.subjectAltName({ uris: [id] }),
    ],
  })
  return presenting([leaf, issuer.certificate.der])
}

const opened: (() => void)[] = []
afterEach(() => {
  for (const close of opened.splice(0)) close()
})

type Verdict = { readonly peer: VerifiedPeer } | { readonly code: string }

interface TestServer {
  readonly port: number
  /** The verdict on the next peer that comes. */
  next(): Promise<Verdict>
}

/** A server that verifies its peer and greets whom it accepts. */
async function serve(
  svid: X509Svid,
  options: TlsOptions & { verifier?: PeerVerifier } = {},
): Promise<TestServer> {
  const verdicts: Verdict[] = []
  const waiting: ((verdict: Verdict) => void)[] = []
  const sockets = new Set<TLSSocket>()
  const tell = (verdict: Verdict) => {
    const waiter = waiting.shift()
    if (waiter) waiter(verdict)
    else verdicts.push(verdict)
  }
  const listener = createServer({ ...serverTlsOptions(svid), ...options }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    try {
      tell({
        peer: verifyTlsPeer(socket, {
          verifier: options.verifier ?? verifier,
          now: now(),
          usage: 'client',
        }),
      })
      socket.write('hello')
    } catch (error) {
      if (!(error instanceof SpiffeError)) throw error
      tell({ code: error.code })
      socket.destroy()
    }
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  opened.push(() => {
    listener.close()
    for (const socket of sockets) socket.destroy()
  })
  return {
    port: (listener.address() as AddressInfo).port,
    next: async () => verdicts.shift() ?? new Promise((resolve) => waiting.push(resolve)),
  }
}

const identity = (svid: X509Svid) => ({ x509Svid: () => svid })

async function dial(port: number, options: Partial<ConnectTlsOptions> = {}) {
  const { signal } = new AbortController()
  const target = { host: '127.0.0.1', port }
  const connection = await connectTls({
    ...target,
    identity: identity(client),
    verifier,
    authorize: authorize.any(),
    now,
    signal,
    ...options,
  })
  opened.push(() => connection.socket.destroy())
  return connection
}

const codeOfDial = (port: number, options?: Partial<ConnectTlsOptions>) =>
  dial(port, options).then(
    () => 'accepted',
    (error: unknown) => (error as { code?: string }).code,
  )

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
    opened.push(() => socket.destroy())
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
    opened.push(() => first.destroy())
    const [session] = (await once(first, 'session')) as [Buffer]
    first.destroy()
    const second = connect({ ...options, session })
    opened.push(() => second.destroy())
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
    opened.push(() => listener.close())
    const { port } = listener.address() as AddressInfo
    const connection = dial(port, { identity: undefined })
    const [socket] = (await once(listener, 'secureConnection')) as [TLSSocket]
    opened.push(() => socket.destroy())
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

describe('connecting', () => {
  test('gives up when the signal aborts, before and during the handshake', async () => {
    const silent = createTcpServer().listen(0, '127.0.0.1')
    await once(silent, 'listening')
    opened.push(() => silent.close())
    const { port } = silent.address() as AddressInfo
    const reason = new Error('enough')
    await expect(dial(port, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)

    const controller = new AbortController()
    const accepted = once(silent, 'connection')
    const connecting = dial(port, { signal: controller.signal })
    const [socket] = (await accepted) as [TLSSocket]
    const ended = new Promise((resolve) =>
      socket
        .once('close', resolve)
        .on('error', () => {})
        .resume(),
    )
    controller.abort(reason)
    await expect(connecting).rejects.toBe(reason)
    await ended
  })

  test('leaves no socket open when it refuses', async () => {
    const { port } = await serve(server)
    const socket = connectTcp(port, '127.0.0.1')
    await once(socket, 'connect')
    const closed = once(socket, 'close')
    const nobody = authorize.oneOf([])
    await expect(dial(0, { socket, authorize: nobody })).rejects.toMatchObject({
      code: 'CS_PEER_NOT_AUTHORIZED',
    })
    await closed
  })

  test('closes the socket that it was given when there is no identity', async () => {
    const { port } = await serve(server)
    const socket = connectTcp(port, '127.0.0.1')
    await once(socket, 'connect')
    const closed = once(socket, 'close')
    const none = {
      x509Svid(): X509Svid {
        throw new SpiffeError('CS_NO_IDENTITY', 'none yet')
      },
    }
    expect(await codeOfDial(0, { socket, identity: none })).toBe('CS_NO_IDENTITY')
    await closed
  })

  test('says what the socket says when nobody listens', async () => {
    const gone = createTcpServer().listen(0, '127.0.0.1')
    await once(gone, 'listening')
    const { port } = gone.address() as AddressInfo
    gone.close()
    await once(gone, 'close')
    expect(await codeOfDial(port)).toBe('ECONNREFUSED')
  })

  test('fails when the other side closes during the handshake', async () => {
    const rude = createTcpServer((socket) => socket.destroy()).listen(0, '127.0.0.1')
    await once(rude, 'listening')
    opened.push(() => rude.close())
    await expect(dial((rude.address() as AddressInfo).port)).rejects.toThrow()
  })

  test('works over a Unix socket and agrees on a protocol', async () => {
    await using folder = await tempFolder()
    const path = folder.file('s.sock')
    const listener = createServer({
      ...serverTlsOptions(server),
      ALPNProtocols: ['h2', 'http/1.1'],
    })
    listener.listen(path)
    await once(listener, 'listening')
    const { socket } = await connectTls({
      path,
      identity: identity(client),
      verifier,
      authorize: authorize.any(),
      now,
      alpn: ['h2'],
      servername: 'orders.example',
      signal: new AbortController().signal,
    })
    expect(socket.alpnProtocol).toBe('h2')
    socket.destroy()
    listener.close()
    await once(listener, 'close')
  })

  test('asks for the identity anew for each connection', async () => {
    const { port, next } = await serve(server)
    const ids = ['/one', '/two'].map((id) => a.issueX509({ id }))
    const rotating = { x509Svid: () => ids.shift()! }
    await dial(port, { identity: rotating })
    await dial(port, { identity: rotating })
    const verdicts = [await next(), await next()]
    expect(verdicts.map((verdict) => 'peer' in verdict && verdict.peer.id)).toEqual([
      'spiffe://a.example/one',
      'spiffe://a.example/two',
    ])
  })
})

test('NT-06 a listener presents a new SVID as soon as it is given one', async () => {
  const listener = createServer(serverTlsOptions(server))
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  opened.push(() => listener.close())
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

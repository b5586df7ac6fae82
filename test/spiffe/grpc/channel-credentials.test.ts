import { once } from 'node:events'
import { createServer as createTcpServer, type Server as NetServer, type Socket } from 'node:net'
import { createServer as createTlsServer, type TLSSocket } from 'node:tls'
import {
  type ChannelCredentials,
  Client,
  type ClientOptions,
  Server,
  ServerCredentials,
  status,
} from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import { type SpiffeChannelOptions, spiffeChannelCredentials } from '../../../spiffe/grpc/index.js'
import {
  authorize,
  bundleSet,
  parseCertificate,
  parseSpiffeId,
  peerVerifier,
  type X509Svid,
} from '../../../spiffe/index.js'
import { presentedChain, serverTlsOptions } from '../../../spiffe/tls/index.js'
import { testAuthority } from '../../support/authority.js'
import { fakeClock } from '../../support/fake-clock.js'
import { until } from '../../support/until.js'

const a = testAuthority('a.example')
const b = testAuthority('b.example')
const serverId = parseSpiffeId('spiffe://a.example/server')

/** A grpc-js server behind TLS of our own, which remembers what its callers presented. */
interface EchoServer extends AsyncDisposable {
  readonly target: string
  readonly callers: readonly Uint8Array[][]
  drop(): void
}

const path = '/test.Echo/Echo'
const bytes = (value: Buffer) => value

async function echoServer(svid: X509Svid): Promise<EchoServer> {
  const grpc = new Server()
  grpc.addService(
    {
      echo: {
        path,
        requestStream: false,
        responseStream: false,
        requestSerialize: bytes,
        requestDeserialize: bytes,
        responseSerialize: bytes,
        responseDeserialize: bytes,
      },
    },
    {
      echo: (call: { request: Buffer }, done: (error: null, value: Buffer) => void) =>
        done(null, call.request),
    },
  )
  const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure())
  const sockets = new Set<TLSSocket>()
  const callers: Uint8Array[][] = []
  const tls = createTlsServer({ ...serverTlsOptions(svid), ALPNProtocols: ['h2'] }, (socket) => {
    callers.push(presentedChain(socket))
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    injector.injectConnection(socket)
  })
  const drop = () => sockets.forEach((socket) => socket.destroy())
  const target = await listen(tls)
  return {
    target,
    callers,
    drop,
    async [Symbol.asyncDispose]() {
      tls.close()
      drop()
      grpc.forceShutdown()
      await Promise.resolve()
    },
  }
}

async function listen(server: NetServer): Promise<string> {
  server.listen({ host: '127.0.0.1', port: 0 })
  await once(server, 'listening')
  const bound = server.address()
  if (!bound || typeof bound === 'string') throw new Error('server has no port')
  return `dns:///127.0.0.1:${bound.port}`
}

const credentialsFor = (options: Partial<SpiffeChannelOptions> = {}) =>
  spiffeChannelCredentials({
    verifier: peerVerifier({ bundles: bundleSet([a.bundle, b.bundle]) }),
    authorize: authorize.id(serverId),
    now: () => new Date(),
    ...options,
  })

interface EchoClient extends Disposable {
  echo(text: string): Promise<string>
}

function echoClient(
  target: string,
  credentials: ChannelCredentials,
  options: ClientOptions = {},
): EchoClient {
  const client = new Client(target, credentials, {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.initial_reconnect_backoff_ms': 1,
    'grpc.max_reconnect_backoff_ms': 1,
    ...options,
  })
  return {
    echo: (text) =>
      new Promise((resolve, reject) => {
        client.makeUnaryRequest(path, bytes, bytes, Buffer.from(text), (error, value) => {
          if (error) reject(error)
          else resolve(String(value))
        })
      }),
    [Symbol.dispose]: () => client.close(),
  }
}

describe('spiffeChannelCredentials', () => {
  test('calls a server that has the expected SPIFFE ID, whatever its host is called', async () => {
    await using server = await echoServer(a.issueX509({ id: serverId }))
    using client = echoClient(server.target, credentialsFor())
    await expect(client.echo('hello')).resolves.toBe('hello')
    expect(server.callers).toEqual([[]])
  })

  test('presents its own identity with the intermediates', async () => {
    const own = a.issueX509({ id: '/agent' })
    await using server = await echoServer(a.issueX509({ id: serverId }))
    const identity = { x509Svid: () => own }
    using client = echoClient(server.target, credentialsFor({ identity }))
    await client.echo('hello')
    expect(server.callers[0]?.map((der) => parseCertificate(der).fingerprint)).toEqual(
      own.chain.map(({ fingerprint }) => fingerprint),
    )
  })

  test('presents the newest SVID on every new connection', async () => {
    let own = a.issueX509({ id: '/agent' })
    await using server = await echoServer(a.issueX509({ id: serverId }))
    const identity = { x509Svid: () => own }
    using client = echoClient(server.target, credentialsFor({ identity }))
    await client.echo('first')
    own = a.issueX509({ id: '/agent' })
    await client.echo('same connection')
    expect(server.callers).toHaveLength(1)

    server.drop()
    // The call that meets the dying connection may fail; the one after it dials anew.
    await client.echo('lost').catch(() => undefined)
    await expect(client.echo('again')).resolves.toBe('again')
    const leaf = server.callers.at(-1)?.[0]
    expect(leaf && parseCertificate(leaf).fingerprint).toBe(own.chain[0].fingerprint)
  })

  test.each([
    [
      'another ID of the same trust domain',
      () => a.issueX509({ id: '/other' }),
      'spiffe://a.example/other',
    ],
    [
      'a member of another trust domain',
      () => b.issueX509({ id: '/server' }),
      'spiffe://b.example/server',
    ],
    [
      'ID-29: the expected ID, signed by the authority of a federated trust domain',
      () => b.issueX509({ id: serverId }),
      'SpiffeError',
    ],
    [
      'an expired certificate',
      () => a.issueX509({ id: serverId, notBefore: new Date(0), notAfter: new Date(1000) }),
      'SpiffeError',
    ],
  ])('refuses %s before anything is sent', async (_, issue, reason) => {
    await using server = await echoServer(issue())
    using client = echoClient(server.target, credentialsFor())
    await expect(client.echo('hello')).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      details: expect.stringContaining(reason) as string,
    })
  })

  test('fails while there is no identity to present, and dials when there is', async () => {
    let own: X509Svid | undefined
    await using server = await echoServer(a.issueX509({ id: serverId }))
    const identity = {
      x509Svid() {
        if (own) return own
        throw new Error('no identity yet')
      },
    }
    using client = echoClient(server.target, credentialsFor({ identity }))
    await expect(client.echo('early')).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      details: expect.stringContaining('no identity yet') as string,
    })
    own = a.issueX509({ id: '/agent' })
    let answer: string | undefined
    while (answer === undefined) answer = await client.echo('late').catch(() => undefined)
    expect(answer).toBe('late')
  })

  test('gives up on a server that is silent in the handshake', async () => {
    const sockets: Socket[] = []
    const silent = createTcpServer((socket) => sockets.push(socket.on('error', () => undefined)))
    const target = await listen(silent)
    const clock = fakeClock()
    using client = echoClient(target, credentialsFor({ clock }))
    const call = client.echo('hello')
    call.catch(() => undefined)
    await until(() => sockets.length === 1 && clock.waiting() === 1)
    await clock.advance(10_000)
    await expect(call).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      details: expect.stringContaining('no TLS handshake within 10000 ms') as string,
    })
    sockets.forEach((socket) => socket.destroy())
    silent.close()
  })

  test('closing the channel gives up a handshake that still runs', async () => {
    const sockets: Socket[] = []
    const closed: Promise<unknown>[] = []
    const silent = createTcpServer((socket) => {
      sockets.push(socket.on('error', () => undefined).resume())
      closed.push(once(socket, 'close'))
    })
    const target = await listen(silent)
    const client = echoClient(target, credentialsFor())
    const call = client.echo('hello')
    call.catch(() => undefined)
    await until(() => sockets.length === 1)
    client[Symbol.dispose]()
    await closed[0]
    await expect(call).rejects.toMatchObject({ code: status.UNAVAILABLE })
    silent.close()
  })

  test('refuses a server that speaks no TLS', async () => {
    const plain = createTcpServer((socket) => {
      socket.on('error', () => undefined).end('HTTP/1.1 400 Bad Request\r\n\r\n')
    })
    const target = await listen(plain)
    using client = echoClient(target, credentialsFor())
    await expect(client.echo('hello')).rejects.toMatchObject({ code: status.UNAVAILABLE })
    plain.close()
  })

  test('sends a host name as SNI and no IP address', async () => {
    const svid = a.issueX509({ id: serverId })
    const names: (string | false | null)[] = []
    const server = createTlsServer(serverTlsOptions(svid), (socket) => {
      names.push(socket.servername)
      socket.destroy()
    })
    const target = await listen(server)
    const port = target.slice(target.lastIndexOf(':'))
    for (const host of ['127.0.0.1', 'localhost']) {
      using client = echoClient(`dns:///${host}${port}`, credentialsFor())
      await client.echo('hello').catch(() => undefined)
    }
    expect(new Set(names)).toEqual(new Set([false, 'localhost']))
    server.close()
  })

  test('two channels share a connection only if they share the credentials', () => {
    const one = credentialsFor()
    expect(one._equals(one)).toBe(true)
    expect(one._equals(credentialsFor())).toBe(false)
    expect(one._isSecure()).toBe(true)
  })
})

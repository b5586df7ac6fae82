import { writeFile } from 'node:fs/promises'
import { createServer, request as httpRequest } from 'node:http'
import { createServer as createTlsServer, type TLSSocket, connect as tlsConnect } from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { formatHostPort, listenOn, parseHostPort } from '../../platform/listen.js'
import { verifyX509Svid, writeBundleDocument, type X509Svid } from '../../spiffe/index.js'
import { secureContextOf, serverTlsOptions } from '../../spiffe/tls/index.js'
import { X509Source } from '../../spiffe/workload-api/index.js'
import { testAuthority } from '../support/authority.js'
import type { RunningProgram } from '../support/countersign.js'
import {
  createEntry,
  type RunningAgent,
  type RunningSentry,
  startAgent,
  startSentry,
  startSidecar,
} from '../support/product.js'
import { type TempFolder, tempFolder } from '../support/temp-folder.js'

const MINUTE = 60_000
const orders = 'spiffe://a.test/ns/shop/sa/orders'
const shop = 'spiffe://a.test/ns/shop/sa/shop'

const policy = `apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: { name: orders, namespace: shop }
spec:
  target: { app: orders }
  rules: [{ name: shop, from: [{ app: shop }] }]
`

/** Domain b.test is federated: everybody below holds its bundle. Its CA signs a name of a.test. */
const foreign = testAuthority('b.test')

describe('a certificate for spiffe://a.test/… that the CA of the federated b.test signed (ID-29, X509-40, FED-14)', () => {
  let folder: TempFolder
  let sentry: RunningSentry
  let agent: RunningAgent
  let sidecar: RunningProgram
  let hits = 0
  const app = createServer((request, response) => {
    hits += 1
    request.resume()
    response.end('reached')
  })

  beforeAll(async () => {
    folder = await tempFolder()
    sentry = await startSentry({ folder, trustDomain: 'a.test' })
    agent = await startAgent({ folder, sentry, sockets: ['orders', 'shop'] })
    await writeFile(folder.file('b.json'), writeBundleDocument(foreign.bundle))
    await sentry.ask('bundle', 'set', 'b.test', '-f', folder.file('b.json'))
    for (const [name, id] of [
      ['orders', orders],
      ['shop', shop],
    ] as const) {
      await createEntry(sentry, {
        id,
        parent: agent.id,
        selectors: [`socket:${name}`],
        args: ['--federates-with', 'b.test'],
      })
    }
    await writeFile(folder.file('policy.yaml'), policy)
    await sentry.ask('policy', 'apply', '-f', folder.file('policy.yaml'))
    const address = formatHostPort(await listenOn(app, { host: '127.0.0.1', port: 0 }))
    sidecar = await startSidecar({
      endpoint: agent.endpointOf('orders'),
      inbound: { app: address },
    })
  }, 2 * MINUTE)

  afterAll(async () => {
    await sidecar?.[Symbol.asyncDispose]()
    await agent?.[Symbol.asyncDispose]()
    await sentry?.[Symbol.asyncDispose]()
    app.close()
    await folder?.[Symbol.asyncDispose]()
  })

  test('both bundles are held by the workloads', async () => {
    await using source = await X509Source.open({ address: agent.endpointOf('orders') })
    expect(source.bundleFor(foreign.trustDomain).x509Authorities).toHaveLength(1)
    expect(source.x509Svid().id).toBe(orders)
  })

  test(
    'is refused by the sidecar in front of the app, and the app never hears of it',
    async () => {
      const forged = foreign.issueX509({ id: shop })
      const outcome = await callAs(forged, sidecar.addresses.inbound ?? '')
      expect(outcome).not.toContain('200')
      expect(hits).toBe(0)
    },
    MINUTE,
  )

  test(
    'is let in when the right CA signed it',
    async () => {
      await using source = await X509Source.open({ address: agent.endpointOf('shop') })
      expect(await callAs(source.x509Svid(), sidecar.addresses.inbound ?? '')).toContain('200')
      expect(hits).toBe(1)
    },
    MINUTE,
  )

  test(
    'is refused by the sidecar that calls',
    async () => {
      let served = 0
      const impostor = createTlsServer(
        serverTlsOptions(foreign.issueX509({ id: orders })),
        (socket) => {
          socket.on('error', () => undefined)
          socket.on('data', () => {
            served += 1
          })
        },
      )
      const address = formatHostPort(await listenOn(impostor, { host: '127.0.0.1', port: 0 }))
      await using caller = await startSidecar({
        endpoint: agent.endpointOf('shop'),
        outbound: { routes: [{ address, expect: [orders] }] },
      })
      expect(await statusOf(caller.addresses.outbound ?? '')).toBeGreaterThanOrEqual(500)
      expect(served).toBe(0)
      impostor.close()
    },
    MINUTE,
  )

  test('is refused by the library', async () => {
    await using source = await X509Source.open({ address: agent.endpointOf('orders') })
    const chain = foreign.issueX509({ id: shop }).chain.map(({ der }) => der)
    expect(() => verifyX509Svid({ chain, bundles: source, now: new Date() })).toThrow(
      expect.objectContaining({ code: 'CS_PEER_CHAIN_INVALID' }),
    )
  })

  test(
    'is refused by the sentry, in the handshake',
    async () => {
      const forged = foreign.issueX509({ id: agent.id })
      await expect(handshake(forged, sentry.address)).resolves.toBe('closed')
    },
    MINUTE,
  )
})

/** The head of the answer to a request made with this identity, or the reason why there is none. */
function callAs(svid: X509Svid, address: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = dial(svid, address, 'http/1.1')
    let text = ''
    socket.on('secureConnect', () =>
      socket.write('GET /x HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n'),
    )
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1')
    })
    socket.on('error', (error) => resolve(`${text}${error.message}`))
    socket.on('close', () => resolve(text))
  })
}

/** In TLS 1.3 a client learns only after its own last flight that it was refused. */
function handshake(svid: X509Svid, address: string): Promise<'closed' | 'open'> {
  return new Promise((resolve) => {
    const socket = dial(svid, address, 'h2')
    socket.on('error', () => resolve('closed'))
    socket.on('close', () => resolve('closed'))
    // The settings frame of a server that goes on with the connection.
    socket.on('data', () => resolve('open'))
    socket.on('secureConnect', () =>
      socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0', 'latin1'),
    )
  })
}

function dial(svid: X509Svid, address: string, protocol: string): TLSSocket {
  return tlsConnect({
    ...parseHostPort(address),
    ...secureContextOf(svid),
    rejectUnauthorized: false,
    ALPNProtocols: [protocol],
  })
}

function statusOf(address: string): Promise<number> {
  return new Promise((resolve, reject) => {
    httpRequest(`http://${address}/x`, (answer) => {
      answer.resume()
      resolve(answer.statusCode ?? 0)
    })
      .on('error', reject)
      .end()
  })
}

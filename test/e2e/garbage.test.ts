import { connect, type NetConnectOpts, type Socket } from 'node:net'
import { connect as tlsConnect } from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseHostPort } from '../../platform/listen.js'
import { countersign } from '../support/countersign.js'
import { type RunningDemo, startDemo } from '../support/demo.js'
import { seededRandom } from '../support/seeded-random.js'

const MINUTE = 60_000
const ROUNDS = 12

describe('garbage on every listener and socket', () => {
  let demo: RunningDemo
  beforeAll(async () => {
    demo = await startDemo(['--svid-ttl', '10m'])
  }, MINUTE)
  afterAll(() => demo?.[Symbol.asyncDispose]())

  const tcp = (part: string, name: string): NetConnectOpts => {
    const address = parseHostPort(demo.addressesOf(part)[name] ?? '')
    if (!address) throw new Error(`${part} announced no ${name}`)
    return address
  }
  const places: [string, () => NetConnectOpts][] = [
    ['the sentry for agents', () => tcp('sentry', 'grpc')],
    ['the admin address of the sentry', () => tcp('sentry', 'admin')],
    ['the admin socket of the sentry', () => ({ path: demo.sentrySocket })],
    ['the Workload API', () => ({ path: demo.agentSocket })],
    ['the admin socket of the agent', () => ({ path: demo.agentAdminSocket })],
    ['the admin address of the agent', () => tcp('agent', 'admin')],
    ['the inbound listener of a sidecar', () => tcp('orders-sidecar', 'inbound')],
    ['the outbound listener of a sidecar', () => tcp('shop-sidecar', 'outbound')],
    ['the admin address of a sidecar', () => tcp('shop-sidecar', 'admin')],
  ]

  test.each(places)(
    'random bytes at %s harm nobody',
    async (name, place) => {
      const random = seededRandom(name.length)
      for (let round = 0; round < ROUNDS; round += 1) {
        await send(place(), random.bytes(1 + Math.floor(random.fraction() * 4000)))
      }
      await everythingWorks()
    },
    MINUTE,
  )

  test.each(places)(
    'heads, frames and lines beyond every limit at %s harm nobody',
    async (_, place) => {
      const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
      await send(
        place(),
        Buffer.concat([
          Buffer.from('GET / HTTP/1.1\r\nHost: x\r\nX-Long: '),
          Buffer.alloc(300_000, 0x61),
        ]),
      )
      await send(place(), Buffer.concat([Buffer.from('GET /'), Buffer.alloc(300_000, 0x61)]))
      await send(
        place(),
        Buffer.concat([
          preface,
          Buffer.from([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0]),
          Buffer.alloc(70_000),
        ]),
      )
      await send(place(), Buffer.concat([preface, settingsFlood(2000)]))
      await everythingWorks()
    },
    MINUTE,
  )

  test.each(places)(
    'connections at %s that say nothing, or half a thing, keep nobody out',
    async (_, place) => {
      const idle = await Promise.all(Array.from({ length: 20 }, () => open(place())))
      for (const socket of idle.slice(10)) socket.write('PRI * HT')
      await everythingWorks()
      for (const socket of idle) socket.destroy()
    },
    MINUTE,
  )

  test(
    'random bytes inside a handshake that succeeded harm nobody',
    async () => {
      const random = seededRandom(5)
      for (const [part, name, protocol] of [
        ['sentry', 'grpc', 'h2'],
        ['orders-sidecar', 'inbound', 'http/1.1'],
      ] as const) {
        for (let round = 0; round < ROUNDS; round += 1) {
          await send({ ...tcp(part, name), tls: protocol }, random.bytes(2000))
        }
      }
      await everythingWorks()
    },
    MINUTE,
  )

  /** No process was lost, and both calls come out as they should. */
  async function everythingWorks(): Promise<void> {
    expect(demo.events().filter(({ event }) => event === 'process-ended')).toEqual([])
    const status = async (method: string) =>
      (await fetch(`http://${demo.shop}/orders/42`, { method })).status
    expect([await status('GET'), await status('DELETE')]).toEqual([200, 403])
    const fetched = await countersign([
      'api',
      'fetch',
      'jwt',
      '--audience',
      'x',
      '--socket',
      demo.endpoints.shop,
    ])
    expect(fetched.stderr).not.toContain('error')
    const listed = await countersign(['entry', 'list', '--sentry-socket', demo.sentrySocket])
    expect(listed.code).toBe(0)
  }
})

function settingsFlood(count: number): Buffer {
  return Buffer.concat(
    Array.from({ length: count }, () => Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])),
  )
}

function open(place: NetConnectOpts): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(place, () => resolve(socket))
    socket.once('error', reject)
    socket.on('error', () => undefined)
  })
}

/** Writes, then waits until the other side is done with the connection or has had its say. */
function send(place: NetConnectOpts & { readonly tls?: string }, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    const socket =
      place.tls === undefined
        ? connect(place)
        : tlsConnect({ ...place, rejectUnauthorized: false, ALPNProtocols: [place.tls] })
    const done = () => {
      socket.destroy()
      resolve()
    }
    socket.on('error', done)
    socket.on('close', done)
    socket.on('data', () => undefined)
    socket.once(place.tls === undefined ? 'connect' : 'secureConnect', () => socket.end(bytes))
    // A listener may rightly wait for more; nothing more comes.
    socket.setTimeout(300, done)
  })
}

import { once } from 'node:events'
import {
  type ClientDuplexStream,
  type ClientReadableStream,
  credentials,
  Metadata,
  makeGenericClientConstructor,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type ServiceError,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { spiffeChannelCredentials } from '../../spiffe/grpc/index.js'
import { authorize, peerVerifier } from '../../spiffe/index.js'
import {
  cast,
  policyOf,
  runProxy,
  type TestProxy,
  testIdentity,
  testPolicy,
} from '../support/running-proxy.js'

const RULES = `
- name: checkout
  from: [{ app: checkout }]
  to: [{ grpc: [shop.Orders/Get, shop.Orders/List, shop.Orders/Chat, shop.Orders/Fail] }]
`

const text = (value: string) => Buffer.from(value)
const method = (name: string, requestStream = false, responseStream = false) => ({
  path: `/shop.Orders/${name}`,
  requestStream,
  responseStream,
  requestSerialize: text,
  requestDeserialize: String,
  responseSerialize: text,
  responseDeserialize: String,
})
const service = {
  get: method('Get'),
  secret: method('Secret'),
  fail: method('Fail'),
  list: method('List', false, true),
  chat: method('Chat', true, true),
} as unknown as ServiceDefinition

interface Orders {
  get(
    request: string,
    metadata: Metadata,
    done: (error: ServiceError | null, got?: string) => void,
  ): void
  secret: Orders['get']
  fail: Orders['get']
  list(request: string): ClientReadableStream<string>
  chat(): ClientDuplexStream<string, string>
  close(): void
}

const people = cast()
const listen = { host: '127.0.0.1', port: 0 }
let secrets = 0
let server: Server
let far: TestProxy
let near: TestProxy

beforeAll(async () => {
  server = new Server()
  server.addService(service, {
    get(call: ServerUnaryCall<string, string>, done: sendUnaryData<string>) {
      const trailer = new Metadata()
      trailer.set('x-served', 'yes')
      done(null, `${call.request} for ${call.metadata.get('x-countersign-caller').join()}`, trailer)
    },
    secret(_: unknown, done: sendUnaryData<string>) {
      secrets += 1
      done(null, 'secret')
    },
    fail(_: unknown, done: sendUnaryData<string>) {
      done({ code: status.FAILED_PRECONDITION, details: 'not today' })
    },
    list(call: ServerWritableStream<string, string>) {
      for (let at = 0; at < 100; at += 1) call.write(`${call.request} ${at}`)
      call.end()
    },
    chat(call: ServerDuplexStream<string, string>) {
      call.on('data', (message: string) => call.write(`you said ${message}`))
      call.on('end', () => call.end())
    },
  })
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(port),
    ),
  )
  far = await runProxy({
    identity: testIdentity(people.orders, [people.authority.bundle]),
    policy: testPolicy(policyOf(RULES, people.orders)),
    inbound: [{ listen, app: { host: '127.0.0.1', port }, protocol: 'h2c' }],
  })
  near = await runProxy({
    identity: testIdentity(people.checkout, [people.authority.bundle]),
    policy: testPolicy(undefined),
    outbound: [
      {
        listen,
        protocol: 'http',
        routes: [
          {
            host: '*',
            address: { host: '127.0.0.1', port: far.port },
            expect: { kind: 'one-of', ids: [people.orders.id] },
          },
        ],
      },
    ],
  })
})

afterAll(async () => {
  server.forceShutdown()
  await near[Symbol.asyncDispose]()
  await far[Symbol.asyncDispose]()
})

const Client = makeGenericClientConstructor(service, 'Orders')

/** Through two sidecars, and straight to the inbound one with an SVID of its own. */
const ways = {
  'through both sidecars': () => new Client(`127.0.0.1:${near.port}`, credentials.createInsecure()),
  'straight over mTLS': () =>
    new Client(
      `127.0.0.1:${far.port}`,
      spiffeChannelCredentials({
        identity: { x509Svid: () => people.checkout },
        verifier: peerVerifier({
          bundles: testIdentity(people.checkout, [people.authority.bundle]),
        }),
        authorize: authorize.id(people.orders.id),
        now: () => new Date(),
      }),
    ),
} as const

const client = (way: keyof typeof ways) => ways[way]() as unknown as Orders

const unary = (orders: Orders, name: 'get' | 'secret' | 'fail', request: string) =>
  new Promise<string>((resolve, reject) =>
    orders[name](request, new Metadata(), (error, got) =>
      error ? reject(error) : resolve(got ?? ''),
    ),
  )

test.each(Object.keys(ways) as (keyof typeof ways)[])('gRPC %s', async (way) => {
  const orders = client(way)
  expect(await unary(orders, 'get', 'order 7')).toBe(`order 7 for ${people.checkout.id}`)

  const messages: string[] = []
  for await (const message of orders.list('order')) messages.push(String(message))
  expect(messages).toHaveLength(100)
  expect(messages.at(-1)).toBe('order 99')

  const chat = orders.chat()
  for (const word of ['one', 'two', 'three']) {
    const answer = once(chat, 'data')
    chat.write(word)
    expect(await answer).toEqual([`you said ${word}`])
  }
  const over = Promise.all([once(chat, 'status'), once(chat.resume(), 'end')])
  chat.end()
  const [ended] = await over
  expect(ended).toMatchObject([{ code: status.OK }])

  await expect(unary(orders, 'fail', 'x')).rejects.toMatchObject({
    code: status.FAILED_PRECONDITION,
    details: 'not today',
  })
  await expect(unary(orders, 'secret', 'x')).rejects.toMatchObject({
    code: status.PERMISSION_DENIED,
    details: expect.stringMatching(/^denied, decision [0-9a-f]+-[0-9a-z]+$/) as string,
  })
  expect(secrets).toBe(0)
  orders.close()
})

test('a call whose caller gives up is given up towards the app', async () => {
  const orders = client('through both sidecars')
  const chat = orders.chat()
  chat.on('error', () => {})
  const answer = once(chat, 'data')
  chat.write('one')
  await answer
  const lines = (await far.logged(0)).length
  chat.cancel()
  const after = await far.logged(lines + 1)
  expect(after.at(-1)).toMatchObject({ path: '/shop.Orders/Chat', close_reason: 'caller' })
  orders.close()
})

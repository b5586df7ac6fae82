import { expect, test } from 'vitest'
import { rawApp } from '../support/raw-app.js'
import {
  ALLOW_CHECKOUT,
  cast,
  connectAs,
  policyOf,
  readAll,
  runProxy,
  testIdentity,
  testPolicy,
} from '../support/running-proxy.js'

test('a call that a rule names reaches the app, with the caller in its headers', async () => {
  const { authority, orders, checkout } = cast()
  await using app = await rawApp()
  await using running = await runProxy({
    identity: testIdentity(orders, [authority.bundle]),
    policy: testPolicy(policyOf(ALLOW_CHECKOUT, orders)),
    inbound: [{ listen: { host: '127.0.0.1', port: 0 }, app: app.address, protocol: 'http1' }],
  })
  const socket = await connectAs(checkout, running.port)
  socket.write('GET /orders/1 HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n')
  expect(await readAll(socket)).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
  expect(app.received()).toContain('GET /orders/1 HTTP/1.1\r\nhost: orders\r\n')
  expect(app.received()).toContain(`x-countersign-caller: ${checkout.id}\r\n`)
  const [line] = await running.logged(1)
  expect(line).toMatchObject({ decision: 'allow', path: '/orders/1', status: 200 })
})

test('a TCP connection that a rule names reaches the app', async () => {
  const { authority, orders, checkout } = cast()
  await using app = await rawApp((text) => `echo ${text}`)
  await using running = await runProxy({
    identity: testIdentity(orders, [authority.bundle]),
    policy: testPolicy(policyOf(ALLOW_CHECKOUT, orders)),
    inbound: [{ listen: { host: '127.0.0.1', port: 0 }, app: app.address, protocol: 'tcp' }],
  })
  const socket = await connectAs(checkout, running.port)
  socket.write('hello')
  socket.end()
  expect(await readAll(socket)).toBe('echo hello')
})

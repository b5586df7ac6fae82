import { once } from 'node:events'
import { type AddressInfo, connect as connectTcp, createServer as createTcpServer } from 'node:net'
import { createServer, type TLSSocket } from 'node:tls'
import { afterEach, expect, test } from 'vitest'
import { authorize, SpiffeError, type X509Svid } from '../../spiffe/index.js'
import { connectTls, serverTlsOptions } from '../../spiffe/tls/index.js'
import { tempFolder } from '../support/temp-folder.js'
import {
  a,
  client,
  closeAll,
  closeLater,
  codeOfDial,
  dial,
  identity,
  now,
  serve,
  server,
  verifier,
} from './tls-world.js'

afterEach(closeAll)

test('gives up when the signal aborts, before and during the handshake', async () => {
  const silent = createTcpServer().listen(0, '127.0.0.1')
  await once(silent, 'listening')
  closeLater(() => silent.close())
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

test('does not wait for a handshake on a socket that is closed already', async () => {
  const { port } = await serve(server)
  const socket = connectTcp(port, '127.0.0.1')
  await once(socket, 'connect')
  socket.destroy()
  await once(socket, 'close')
  await expect(dial(0, { socket })).rejects.toThrow('closed before the TLS handshake')
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
  closeLater(() => rude.close())
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

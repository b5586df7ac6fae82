import { once } from 'node:events'
import { chmod, link, rename, stat, writeFile } from 'node:fs/promises'
import { connect as connectTcp, createServer, Server, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { connect as connectTls } from 'node:tls'
import { status } from '@grpc/grpc-js'
import { expect, test, vi } from 'vitest'
import { AgentClient } from '../../../proto/gen/spire/api/server/agent/v1/agent.js'
import { BundleClient } from '../../../proto/gen/spire/api/server/bundle/v1/bundle.js'
import { EntryClient } from '../../../proto/gen/spire/api/server/entry/v1/entry.js'
import { startSentry } from '../../../sentry/server.js'
import { testAuthority } from '../../support/authority.js'
import { fakeClock } from '../../support/fake-clock.js'
import { seededRandom } from '../../support/seeded-random.js'
import { tempFolder } from '../../support/temp-folder.js'
import { until } from '../../support/until.js'
import {
  ask,
  attestWith,
  nextOf,
  refusalOf,
  runningIn,
  sentryOptions,
  type TestSentry,
  testSentry,
} from '../running-sentry.js'

const closed = (socket: Socket) =>
  new Promise<void>((resolve) => {
    // How it is closed is the other side's choice.
    socket.on('error', () => undefined)
    socket.on('close', () => resolve())
    socket.resume()
  })

const stillServes = async (test: TestSentry) => {
  const { count } = await ask(test.local(EntryClient), 'countEntries', { filter: undefined })
  const bundle = await ask(test.remote(BundleClient), 'getBundle', { outputMask: undefined })
  expect([count, bundle.trustDomain]).toEqual([0, 'prod.example'])
}

const tlsTo = (test: TestSentry, options: object = {}) =>
  connectTls({
    host: '127.0.0.1',
    port: test.sentry.address.port,
    rejectUnauthorized: false,
    ALPNProtocols: ['h2'],
    ...options,
  })

test('random bytes on the port and on the admin socket close the connection and nothing else', async () => {
  await using test = await testSentry()
  const random = seededRandom(7)
  for (let round = 0; round < 20; round += 1) {
    const bytes = random.bytes(1 + Math.floor(random.fraction() * 4000))
    const network = connectTcp(test.sentry.address.port, '127.0.0.1')
    const admin = connectTcp(test.sentry.adminSocket)
    const gone = [closed(network), closed(admin)]
    network.write(bytes)
    admin.write(bytes)
    network.end()
    admin.end()
    await Promise.all(gone)
  }
  await stillServes(test)
})

test('random bytes inside TLS close the connection', async () => {
  await using test = await testSentry()
  const socket = tlsTo(test)
  await once(socket, 'secureConnect')
  const gone = closed(socket)
  socket.write(seededRandom(3).bytes(5000))
  await gone
  await stillServes(test)
})

test('a peer that does not speak HTTP/2 is sent away', async () => {
  await using test = await testSentry()
  const silent = tlsTo(test, { ALPNProtocols: undefined })
  await closed(silent)
  const other = tlsTo(test, { ALPNProtocols: ['http/1.1'] })
  await closed(other)
  await stillServes(test)
})

test('a handshake that does not go on is given up', async () => {
  await using test = await testSentry({ connectionLimits: { handshakeTimeoutMs: 1500 } })
  const socket = connectTcp(test.sentry.address.port, '127.0.0.1')
  await closed(socket)
  await stillServes(test)
})

test('handshakes that do not go on take only their part of the connections', async () => {
  await using test = await testSentry({ connectionLimits: { maxHandshakesPerAddress: 2 } })
  const port = test.sentry.address.port
  const idle = [connectTcp(port, '127.0.0.1'), connectTcp(port, '127.0.0.1')]
  await Promise.all(idle.map((socket) => once(socket, 'connect')))
  await closed(connectTcp(port, '127.0.0.1'))
  for (const socket of idle) socket.destroy()
})

test('a handshake that is over holds no place', async () => {
  await using test = await testSentry({ connectionLimits: { maxHandshakesPerAddress: 1 } })
  for (let round = 0; round < 3; round += 1) {
    await ask(test.remote(BundleClient), 'getBundle', { outputMask: undefined })
  }
})

test('a connection that cannot be accepted does not end the process', async () => {
  const listen = vi.spyOn(Server.prototype, 'listen')
  await using test = await testSentry()
  const servers = listen.mock.contexts as Server[]
  listen.mockRestore()
  expect(servers).toHaveLength(2)
  for (const server of servers) expect(server.emit('error', new Error('EMFILE'))).toBe(true)
  await stillServes(test)
})

test('callers without a certificate can have only their part of the connections', async () => {
  await using test = await testSentry({ connectionLimits: { maxAnonymous: 2 } })
  const agent = await test.attest()
  const first = test.remote(BundleClient)
  const get = (client: BundleClient) => ask(client, 'getBundle', { outputMask: undefined })
  await get(first)
  // The attesting connection is the other one.
  expect((await refusalOf(get(test.remote(BundleClient)))).status).toBe(status.UNAVAILABLE)
  const own = test.remote(EntryClient, agent.svid)
  expect((await ask(own, 'getAuthorizedEntries', { outputMask: undefined })).entries).toEqual([])
})

test('one address can have only its part of those, and nobody stays for long', async () => {
  const clock = fakeClock(new Date())
  await using test = await testSentry({
    clock,
    connectionLimits: { maxAnonymousPerAddress: 1, anonymousLifeMs: 60_000 },
  })
  const get = (client: BundleClient) => ask(client, 'getBundle', { outputMask: undefined })
  await get(test.remote(BundleClient))
  expect((await refusalOf(get(test.remote(BundleClient)))).status).toBe(status.UNAVAILABLE)
  await clock.advance(60_000)
  await until(() => test.sentry.status().connections === 0)
  await get(test.remote(BundleClient))
})

test('a message over 4 MiB is refused, and one just under it is read', async () => {
  await using test = await testSentry()
  const client = test.local(EntryClient)
  const ask5 = (bytes: number) =>
    ask(client, 'getEntry', { id: 'x'.repeat(bytes), outputMask: undefined })
  expect((await refusalOf(ask5(4 * 1024 * 1024 + 1))).status).toBe(status.RESOURCE_EXHAUSTED)
  expect((await refusalOf(ask5(4 * 1024 * 1024 - 100))).status).toBe(status.NOT_FOUND)
})

test('a caller without a certificate is given no room for a large message', async () => {
  await using test = await testSentry()
  const client = test.remote(AgentClient)
  const attempt = (length: number) => refusalOf(attestWith(client, 'x'.repeat(length)))
  expect((await attempt(70_000)).status).toBe(status.RESOURCE_EXHAUSTED)
  expect((await attempt(60_000)).code).toBe('CS_JOIN_TOKEN_INVALID')
})

test('an expired certificate, or one of a stranger, fails the handshake also for what everybody may call', async () => {
  await using test = await testSentry()
  const stranger = testAuthority('prod.example').issueX509({ id: '/spire/agent/x' })
  const call = ask(test.remote(BundleClient, stranger), 'getBundle', { outputMask: undefined })
  expect((await refusalOf(call)).status).toBe(status.UNAVAILABLE)
})

test('the admin socket is for its owner alone, or for its group', async () => {
  await using owner = await testSentry()
  const modes = async (path: string) =>
    [path, dirname(path)].map(async (name) => ((await stat(name)).mode & 0o777).toString(8))
  expect(await Promise.all(await modes(owner.sentry.adminSocket))).toEqual(['600', '700'])
  await using folder = await tempFolder()
  const path = folder.file('group/sentry.sock')
  await using group = await testSentry({ adminSocket: { path, group: true } })
  expect(await Promise.all(await modes(group.sentry.adminSocket))).toEqual(['770', '750'])
})

test('a socket left behind is replaced, one that answers or is no socket is not', async () => {
  await using folder = await tempFolder()
  await using first = await runningIn(folder)
  const { adminSocket } = first.sentry
  const second = { adminSocket: { path: adminSocket }, dataFolder: folder.file('other') }
  await expect(runningIn(folder, second)).rejects.toMatchObject({ code: 'CS_SOCKET_IN_USE' })
  const file = folder.file('admin/file')
  await writeFile(file, 'mine')
  await expect(runningIn(folder, { ...second, adminSocket: { path: file } })).rejects.toMatchObject(
    { code: 'CS_SOCKET_IN_USE' },
  )

  const stale = createServer()
  const left = folder.file('admin/left.sock')
  stale.listen(left)
  await once(stale, 'listening')
  // What a killed process leaves: the file without a listener.
  await leaveBehind(stale, left)
  await using third = await runningIn(folder, { ...second, adminSocket: { path: left } })
  await stillServes(third)
})

async function leaveBehind(server: Server, path: string): Promise<void> {
  await link(path, `${path}.kept`)
  server.close()
  await once(server, 'close')
  await rename(`${path}.kept`, path)
}

test('a port that is taken is told by code, and leaves nothing open', async () => {
  await using folder = await tempFolder()
  const other = createServer()
  other.listen(0, '127.0.0.1')
  await once(other, 'listening')
  const bound = other.address()
  const port = typeof bound === 'object' && bound ? bound.port : 0
  const taken = await sentryOptions(folder, { listen: { host: '127.0.0.1', port } })
  await expect(startSentry(taken)).rejects.toMatchObject({ code: 'CS_PORT_TAKEN' })
  other.close()
  // The datastore and the socket of the failed start are free again.
  await using test = await runningIn(folder)
  await stillServes(test)
})

test.skipIf(process.getuid?.() === 0)(
  'a folder that cannot be written is told by code',
  async () => {
    await using folder = await tempFolder()
    await chmod(folder.path, 0o500)
    await expect(runningIn(folder)).rejects.toMatchObject({ code: 'CS_FOLDER_UNUSABLE' })
    await chmod(folder.path, 0o700)
  },
)

test('a data folder that is a file is told by code', async () => {
  await using folder = await tempFolder()
  await writeFile(folder.file('data'), '')
  await expect(runningIn(folder)).rejects.toMatchObject({ code: 'CS_FOLDER_UNUSABLE' })
})

test('closing ends open streams with a status and open connections with them', async () => {
  const test = await testSentry()
  const agent = await test.attest()
  const call = test.remote(AgentClient).attestAgent()
  const waiting = refusalOf(nextOf(call))
  const own = test.remote(EntryClient, agent.svid)
  await ask(own, 'getAuthorizedEntries', { outputMask: undefined })
  await test.sentry.close()
  await test.sentry.close()
  expect(await waiting).toMatchObject({ status: status.UNAVAILABLE, code: 'CS_SHUTTING_DOWN' })
  await expect(ask(own, 'getAuthorizedEntries', { outputMask: undefined })).rejects.toThrow()
  await test[Symbol.asyncDispose]()
})

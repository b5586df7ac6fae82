import { connect, createServer } from 'node:net'
import { Writable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { type Clock, systemClock } from '../../platform/clock.js'
import { createMetrics } from '../../platform/metrics.js'
import { systemRandom } from '../../platform/random.js'
import type { SignedSnapshot } from '../../proto/gen/countersign/policy/v1/policy.js'
import { type SidecarOptions, startSidecar } from '../../sidecar/sidecar.js'
import { makeSpiffeId, type X509Svid } from '../../spiffe/index.js'
import { fakeIdentities } from '../support/fake-identities.js'
import { fakeWorkloadApi } from '../support/fake-workload-api.js'
import { testEndpoint } from '../support/local-endpoint.js'
import { memoryLog } from '../support/memory-log.js'
import { type RawApp, rawApp } from '../support/raw-app.js'
import { connectAs, readAll, textReader } from '../support/running-proxy.js'
import { ORDERS_PATH, signedSnapshot } from '../support/signed-snapshot.js'
import { tempFolder } from '../support/temp-folder.js'
import { until } from '../support/until.js'

const LOOPBACK = { host: '127.0.0.1', port: 0 }
const LONG_MS = 600_000
const me = [`unix:uid:${process.getuid?.() ?? 0}`]
const ordersEntry = { path: ORDERS_PATH, selectors: me }
const REQUEST = 'GET /orders/1 HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n'

const FRESH_POLICY_MS = 1000

/** A clock on which a wait for the first or for a fresh policy ends when the test says so. */
function patientClock() {
  let timeUp = () => {}
  const clock: Clock = {
    ...systemClock,
    sleep: (ms, signal) =>
      ms < LONG_MS / 2 && ms !== FRESH_POLICY_MS
        ? systemClock.sleep(ms, signal)
        : new Promise((resolve, reject) => {
            timeUp = resolve
            signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
          }),
  }
  return { clock, timeUp: () => timeUp() }
}

async function stage(options: { readonly entries?: readonly (typeof ordersEntry)[] } = {}) {
  const identities = fakeIdentities({ entries: options.entries ?? [ordersEntry] })
  const { authority } = identities
  const endpoint = await testEndpoint({ identities })
  const folder = await tempFolder()
  const app = await rawApp()
  const log = memoryLog()
  const { clock, timeUp } = patientClock()
  const target = makeSpiffeId(authority.trustDomain, ORDERS_PATH)
  const start = (changes: Partial<SidecarOptions> = {}) =>
    startSidecar({
      workloadApi: `unix://${endpoint.path}`,
      inbound: [{ listen: LOOPBACK, app: app.address, protocol: 'http1' }],
      outbound: [],
      readyTimeoutMs: LONG_MS,
      signal: new AbortController().signal,
      accessLog: { destination: new Writable({ write: (_c, _e, done) => done() }), mode: 'off' },
      metrics: createMetrics(),
      clock,
      random: systemRandom,
      log,
      ...changes,
    })
  const give = (generation: number, changes: Partial<SignedSnapshot> = {}) =>
    identities.setSnapshot({ ...signedSnapshot({ authority, generation }), ...changes })
  const streamsClosed = () => until(() => endpoint.endpoints.streams() === 0)
  return {
    identities,
    authority,
    app,
    log,
    target,
    folder,
    timeUp,
    start,
    give,
    streamsClosed,
    checkout: authority.issueX509({ id: '/ns/shop/sa/checkout' }),
    async [Symbol.asyncDispose]() {
      await app[Symbol.asyncDispose]()
      await endpoint[Symbol.asyncDispose]()
      await folder[Symbol.asyncDispose]()
    },
  }
}

type Sidecar = Awaited<ReturnType<typeof startSidecar>>

const ended = (sidecar: Sidecar): AsyncDisposable => ({
  [Symbol.asyncDispose]: async () => void (await sidecar.close(0)),
})
const portOf = ({ proxy }: Sidecar) => proxy.tunnels[0]?.address.port ?? 0

async function callAs(svid: X509Svid, sidecar: Sidecar): Promise<string> {
  const socket = await connectAs(svid, portOf(sidecar))
  socket.write(REQUEST)
  const answer = await readAll(socket)
  socket.destroy()
  return answer
}

describe('a sidecar that has started', () => {
  test('lets in whom the policy names, says who it is and is ready', async () => {
    await using here = await stage()
    here.give(3)
    const sidecar = await here.start()
    await using _ = ended(sidecar)
    expect(await callAs(here.checkout, sidecar)).toMatch(/^HTTP\/1\.1 200/)
    const stranger = here.authority.issueX509({ id: '/ns/shop/sa/stranger' })
    expect(await callAs(stranger, sidecar)).toMatch(/^HTTP\/1\.1 403/)
    expect(sidecar.readiness()).toEqual({ ready: true, reasons: [] })
    const { authority } = here
    expect(sidecar.status()).toMatchObject({
      identity: { id: here.target, serial: expect.any(String), expires_at: expect.any(String) },
      policy: { id: expect.stringMatching(/^[0-9a-f]{64}$/), generation: 3 },
      policy_standing: { state: 'current', code: '' },
      policy_connected: true,
      tunnels: [{ direction: 'inbound', address: `127.0.0.1:${portOf(sidecar)}` }],
      peers: expect.any(Object),
    })
    const idle = await connectAs(here.checkout, portOf(sidecar))
    await until(() => sidecar.status().peers[authority.trustDomain] === 1)
    idle.destroy()
  })

  test('reports to the agent what it enforces, and is forgotten when it ends', async () => {
    await using here = await stage()
    here.give(3)
    const sidecar = await here.start()
    await until(() => here.identities.reports.length > 0)
    const [report] = here.identities.reports
    expect(report).toMatchObject({ target: here.target, state: 'current', generation: 3n })
    await sidecar.close(0)
    await until(() => here.identities.forgotten.length > 0)
    expect(here.identities.forgotten).toEqual([[here.target, report?.instance]])
    await here.streamsClosed()
  })

  test('changes over to a later policy without closing its listener (RD-1)', async () => {
    await using here = await stage()
    here.give(1)
    const sidecar = await here.start()
    await using _ = ended(sidecar)
    const { authority } = here
    here.identities.setSnapshot(signedSnapshot({ authority, generation: 2, caller: 'billing' }))
    await until(() => sidecar.status().policy?.generation === 2)
    expect(await callAs(here.checkout, sidecar)).toMatch(/^HTTP\/1\.1 403/)
    const billing = authority.issueX509({ id: '/ns/shop/sa/billing' })
    expect(await callAs(billing, sidecar)).toMatch(/^HTTP\/1\.1 200/)
  })

  test('keeps its policy, and says so, when what comes is not trusted', async () => {
    await using here = await stage()
    here.give(1)
    const sidecar = await here.start()
    await using _ = ended(sidecar)
    here.give(2, { signature: Buffer.alloc(64, 1) })
    await until(() => sidecar.status().policy_standing?.state === 'invalid')
    expect(sidecar.status()).toMatchObject({
      policy: { generation: 1 },
      policy_standing: { code: 'CS_SNAPSHOT_UNTRUSTED' },
    })
    expect(sidecar.readiness().ready).toBe(true)
    expect(await callAs(here.checkout, sidecar)).toMatch(/^HTTP\/1\.1 200/)
  })
})

describe('who a sidecar is', () => {
  test('stays the same when it is granted another identity as well', async () => {
    await using here = await stage()
    here.give(1)
    const sidecar = await here.start()
    await using _ = ended(sidecar)
    const other = { path: '/ns/shop/sa/other', selectors: me }
    const before = sidecar.status().identity?.serial
    here.identities.setEntries([other, ordersEntry])
    here.identities.issue()
    await until(() => sidecar.status().identity?.serial !== before)
    expect(sidecar.status().identity?.id).toBe(here.target)
    expect(sidecar.readiness().ready).toBe(true)
  })

  test('does not become another: without its own identity it is not ready and lets nobody in', async () => {
    await using here = await stage()
    here.give(1)
    const sidecar = await here.start()
    await using _ = ended(sidecar)
    const open = await connectAs(here.checkout, portOf(sidecar))
    const closed = readAll(open)
    here.identities.setEntries([{ path: '/ns/shop/sa/other', selectors: me }])
    await until(() => sidecar.status().identity === null)
    expect(sidecar.readiness()).toEqual({
      ready: false,
      reasons: [`CS_NO_IDENTITY: there is no valid SVID for ${here.target}`],
    })
    await closed
    here.identities.setEntries([ordersEntry])
    await until(() => sidecar.readiness().ready)
    expect(sidecar.status().identity?.id).toBe(here.target)
  })
})

describe('a sidecar that waits', () => {
  test('opens its listener only when the policy is there (RD-7)', async () => {
    await using here = await stage()
    const port = await freePort()
    const listen = { host: '127.0.0.1', port }
    const starting = here.start({
      inbound: [{ listen, app: here.app.address, protocol: 'http1' }],
    })
    await here.log.until(({ message }) => message === 'the agent holds no policy')
    expect(await connects(port)).toBe(false)
    here.give(1)
    const sidecar = await starting
    await using _ = ended(sidecar)
    expect(await connects(port)).toBe(true)
  })

  test('waits for its identity, and names the socket that it waits at (PX-11)', async () => {
    await using here = await stage({ entries: [] })
    here.give(1)
    const starting = here.start()
    await here.log.until(({ message }) => message === 'waiting for the first SVID')
    here.identities.setEntries([ordersEntry])
    const sidecar = await starting
    await using _ = ended(sidecar)
    expect(here.log.lines[0]).toMatchObject({
      workloadApi: expect.stringContaining('public.sock'),
    })
  })

  test('gives up when no SVID has come in time, and says where and why', async () => {
    await using here = await stage()
    const workloadApi = `unix://${here.folder.file('nobody.sock')}`
    await expect(here.start({ workloadApi, readyTimeoutMs: 300 })).rejects.toMatchObject({
      code: 'CS_SIDECAR_NOT_READY',
      message: expect.stringMatching(/no SVID came from unix:.*nobody\.sock: no identity within/),
    })
  })

  test.each<[string, (here: Awaited<ReturnType<typeof stage>>) => void, RegExp]>([
    ['the agent holds none', () => {}, /the agent holds no policy for spiffe:.*orders/],
    [
      'it is not trusted',
      ({ give }) => give(1, { signature: Buffer.alloc(64, 1) }),
      /signature does not belong/,
    ],
  ])('gives up when no policy has come in time because %s', async (_, prepare, reason) => {
    await using here = await stage()
    prepare(here)
    const failed = expect(here.start()).rejects.toMatchObject({
      code: 'CS_SIDECAR_NOT_READY',
      message: expect.stringMatching(reason),
    })
    await here.log.until(({ level }) => level === 'warn')
    here.timeUp()
    await failed
    await here.streamsClosed()
  })

  test('gives up when no policy can come, because the agent knows nothing of it', async () => {
    await using here = await stage()
    const { authority } = here
    await using foreign = await fakeWorkloadApi({ authority, identities: [{ id: ORDERS_PATH }] })
    const failed = expect(here.start({ workloadApi: foreign.address })).rejects.toMatchObject({
      code: 'CS_SIDECAR_NOT_READY',
      message: expect.stringContaining('UNIMPLEMENTED'),
    })
    await here.log.until(({ level }) => level === 'warn')
    here.timeUp()
    await failed
  })

  test('is ended by its signal while it waits for an SVID', async () => {
    await using here = await stage({ entries: [] })
    const stop = new AbortController()
    const failed = expect(here.start({ signal: stop.signal })).rejects.toThrow('enough')
    await here.log.until(({ message }) => message === 'waiting for the first SVID')
    stop.abort(new Error('enough'))
    await failed
    await here.streamsClosed()
  })

  test('is ended by its signal while it waits for a policy', async () => {
    await using here = await stage()
    const stop = new AbortController()
    const failed = expect(here.start({ signal: stop.signal })).rejects.toThrow('enough')
    await here.log.until(({ message }) => message === 'the agent holds no policy')
    stop.abort(new Error('enough'))
    await failed
    await here.streamsClosed()
  })

  test('does not begin when its signal has ended already', async () => {
    await using here = await stage()
    here.give(1)
    const signal = AbortSignal.abort(new Error('enough'))
    await expect(here.start({ signal })).rejects.toThrow('enough')
    await here.streamsClosed()
  })
})

describe('a sidecar that cannot start', () => {
  const inboundOn = (app: RawApp, port: number) => ({
    listen: { host: '127.0.0.1', port },
    app: app.address,
    protocol: 'http1' as const,
  })
  type Here = Awaited<ReturnType<typeof stage>>

  test.each<[string, string, (here: Here) => Partial<SidecarOptions>]>([
    ['without a listener', 'CS_TUNNEL_INVALID', () => ({ inbound: [] })],
    ['with no address', 'CS_SOCKET_INVALID', () => ({ workloadApi: '/run/agent.sock' })],
    [
      'with a state folder that cannot be',
      'CS_FOLDER_UNUSABLE',
      () => ({ stateFolder: '/dev/null/state' }),
    ],
    [
      'on a port that is taken',
      'CS_PORT_TAKEN',
      ({ app }) => ({ inbound: [inboundOn(app, 0), inboundOn(app, app.port)] }),
    ],
  ])('%s says %s and leaves nothing open', async (_, code, changes) => {
    await using here = await stage()
    here.give(1)
    await expect(here.start(changes(here))).rejects.toMatchObject({ code })
    await here.streamsClosed()
  })
})

describe('a sidecar that starts again', () => {
  test('enforces what it saved when the agent has nothing for it', async () => {
    await using here = await stage()
    const stateFolder = here.folder.file('state')
    here.give(5)
    await (await here.start({ stateFolder })).close(0)
    const { authority } = here
    const identities = fakeIdentities({ authority, entries: [ordersEntry] })
    await using endpoint = await testEndpoint({ identities })
    const workloadApi = `unix://${endpoint.path}`
    const sidecar = await here.start({ stateFolder, workloadApi })
    await using _ = ended(sidecar)
    expect(sidecar.status()).toMatchObject({
      policy: { generation: 5 },
      policy_standing: { state: 'stale', code: 'CS_POLICY_UNAVAILABLE' },
    })
    expect(await callAs(here.checkout, sidecar)).toMatch(/^HTTP\/1\.1 200/)
  })

  test('enforces what it saved with an agent that knows nothing of policies', async () => {
    await using here = await stage()
    const stateFolder = here.folder.file('state')
    here.give(5)
    await (await here.start({ stateFolder })).close(0)
    const { authority } = here
    await using foreign = await fakeWorkloadApi({ authority, identities: [{ id: ORDERS_PATH }] })
    const starting = here.start({ stateFolder, workloadApi: foreign.address })
    await here.log.until(({ level }) => level === 'warn')
    here.timeUp()
    const sidecar = await starting
    await using _ = ended(sidecar)
    expect(sidecar.status()).toMatchObject({
      policy: { generation: 5 },
      policy_standing: null,
      policy_connected: false,
    })
  })

  test('lets nobody in by the saved policy when the agent has a later one', async () => {
    await using here = await stage()
    const stateFolder = here.folder.file('state')
    here.give(5)
    await (await here.start({ stateFolder })).close(0)
    here.give(6)
    const sidecar = await here.start({ stateFolder })
    await using _ = ended(sidecar)
    expect(sidecar.status().policy).toMatchObject({ generation: 6 })
  })

  test('keeps a policy out that is older than the saved one', async () => {
    await using here = await stage()
    const stateFolder = here.folder.file('state')
    here.give(5)
    await (await here.start({ stateFolder })).close(0)
    here.give(4)
    const sidecar = await here.start({ stateFolder })
    await using _ = ended(sidecar)
    expect(sidecar.status()).toMatchObject({
      policy: { generation: 5 },
      policy_standing: { code: 'CS_SNAPSHOT_OUTDATED' },
    })
  })
})

describe('closing', () => {
  test('is not ready from the first moment, lets a request end and takes no other (RD-3)', async () => {
    await using here = await stage()
    here.give(1)
    await using slow = await rawApp(() => undefined)
    const sidecar = await here.start({
      inbound: [{ listen: LOOPBACK, app: slow.address, protocol: 'http1' }],
    })
    const reached = slow.next()
    const caller = await connectAs(here.checkout, portOf(sidecar))
    const reader = textReader(caller)
    caller.write(REQUEST)
    const app = await reached
    await until(() => slow.received().includes('GET /orders/1'))
    const closing = sidecar.close(60_000)
    expect(sidecar.readiness()).toEqual({
      ready: false,
      reasons: ['stopping: takes nothing new'],
    })
    expect(await connects(portOf(sidecar))).toBe(false)
    app.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
    expect(await reader.until('\r\n\r\nok')).toMatch(/^HTTP\/1\.1 200/)
    caller.destroy()
    expect(await closing).toBe(true)
    await here.streamsClosed()
  })

  test('says when a request was still open at the end of its time', async () => {
    await using here = await stage()
    here.give(1)
    await using slow = await rawApp(() => undefined)
    const sidecar = await here.start({
      inbound: [{ listen: LOOPBACK, app: slow.address, protocol: 'http1' }],
    })
    const caller = await connectAs(here.checkout, portOf(sidecar))
    caller.write(REQUEST)
    await until(() => slow.received().includes('GET /orders/1'))
    expect(await sidecar.close(0)).toBe(false)
    await here.streamsClosed()
  })

  test('twice is the same as once', async () => {
    await using here = await stage()
    here.give(1)
    const sidecar = await here.start()
    expect(await Promise.all([sidecar.close(9000), sidecar.close(0)])).toEqual([true, true])
    expect(await sidecar.close(0)).toBe(true)
  })
})

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const bound = server.address()
  await new Promise((resolve) => server.close(resolve))
  return bound && typeof bound === 'object' ? bound.port : 0
}

function connects(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

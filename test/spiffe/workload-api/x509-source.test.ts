import { status } from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import { parseTrustDomain } from '../../../spiffe/index.js'
import {
  pickByHint,
  type Runtime,
  X509Source,
  type X509SourceOptions,
} from '../../../spiffe/workload-api/index.js'
import { testAuthority } from '../../support/authority.js'
import { fakeClock } from '../../support/fake-clock.js'
import { type FakeWorkloadApiOptions, fakeWorkloadApi } from '../../support/fake-workload-api.js'
import { seededRandom } from '../../support/seeded-random.js'
import { until } from '../../support/until.js'

const clock = fakeClock()
const authority = testAuthority('a.example', { now: clock.now })
const federated = testAuthority('b.example', { now: clock.now })
const runtime: Runtime = { clock, random: seededRandom(1), environment: {} }

const fakeApi = (options: Partial<FakeWorkloadApiOptions> = {}) =>
  fakeWorkloadApi({ authority, now: clock.now, ...options })
const open = (address: string, options: X509SourceOptions = {}) =>
  X509Source.open({ address, runtime, ...options })
/** Resolves with the next change. */
const nextChange = (source: X509Source) =>
  new Promise<void>((resolve) => {
    const stop = source.onChange(() => {
      stop()
      resolve()
    })
  })

describe('X509Source', () => {
  test('is open when it has an identity', async () => {
    await using api = await fakeApi({ federated: [federated] })
    await using source = await open(api.address)
    expect(source.x509Svid().id).toBe('spiffe://a.example/web')
    expect(source.bundleFor(authority.trustDomain).x509Authorities).toHaveLength(1)
    expect(source.bundleFor(federated.trustDomain).trustDomain).toBe('b.example')
  })

  test('WL-22: knows no bundle of any other trust domain', async () => {
    await using api = await fakeApi()
    await using source = await open(api.address)
    expect(() => source.bundleFor(parseTrustDomain('c.example'))).toThrow(
      expect.objectContaining({ code: 'CS_BUNDLE_NOT_FOUND' }),
    )
  })

  test('hands out the newest SVID after a rotation, and says that there is one', async () => {
    await using api = await fakeApi()
    await using source = await open(api.address)
    const before = source.x509Svid()
    expect(source.x509Svid()).toBe(before)
    const changed = nextChange(source)
    api.rotate()
    await changed
    expect(source.x509Svid()).not.toBe(before)
    expect(source.x509Svid().id).toBe(before.id)
  })

  test('what it answers within a listener is all of the new message', async () => {
    await using api = await fakeApi({ federated: [federated] })
    await using source = await open(api.address)
    const seen: unknown[] = []
    const changed = nextChange(source)
    source.onChange(() => {
      const { svids, bundles } = source.context()
      seen.push([source.x509Svid() === svids[0], bundles.has(federated.trustDomain)])
    })
    api.federate([])
    await changed
    expect(seen).toEqual([[true, false]])
    expect(() => source.bundleFor(federated.trustDomain)).toThrow(
      expect.objectContaining({ code: 'CS_BUNDLE_NOT_FOUND' }),
    )
  })

  test('WL-38, WL-43: gives out nothing after PermissionDenied, and again when it may', async () => {
    await using api = await fakeApi()
    await using source = await open(api.address)
    const withdrawn = nextChange(source)
    api.withdraw()
    await withdrawn
    expect(() => source.x509Svid()).toThrow(expect.objectContaining({ code: 'CS_NO_IDENTITY' }))
    expect(() => source.context()).toThrow(expect.objectContaining({ code: 'CS_NO_IDENTITY' }))
    expect(() => source.bundleFor(authority.trustDomain)).toThrow(
      expect.objectContaining({ code: 'CS_BUNDLE_NOT_FOUND' }),
    )
    const granted = nextChange(source)
    api.grant([{ id: '/web' }])
    await until(() => clock.waiting() === 1)
    await clock.advance(250)
    await granted
    expect(source.x509Svid().id).toBe('spiffe://a.example/web')
  })

  test('keeps what it has while the endpoint is away', async () => {
    await using api = await fakeApi()
    await using source = await open(api.address)
    const before = source.x509Svid()
    await api.stop()
    await until(() => clock.waiting() === 1)
    expect(source.x509Svid()).toBe(before)
    expect(source.bundleFor(authority.trustDomain)).toBeDefined()
  })

  test('CS_SVID_EXPIRED: does not present an SVID that was not renewed in time', async () => {
    await using api = await fakeApi({ identities: [{ id: '/web', ttlMs: 60_000 }] })
    await using source = await open(api.address)
    await clock.advance(58_000)
    expect(source.x509Svid().id).toBe('spiffe://a.example/web')
    await clock.advance(3000)
    expect(() => source.x509Svid()).toThrow(
      expect.objectContaining({
        code: 'CS_SVID_EXPIRED',
        message: expect.stringContaining('spiffe://a.example/web') as string,
      }),
    )
  })

  test('CS_SVID_EXPIRED: says why it was not renewed, as far as that is known', async () => {
    await using api = await fakeApi({ identities: [{ id: '/web', ttlMs: 60_000 }] })
    await using source = await open(api.address)
    await api.stop()
    await until(() => clock.waiting() === 1)
    await clock.advance(61_000)
    expect(() => source.x509Svid()).toThrow(
      expect.objectContaining({
        code: 'CS_SVID_EXPIRED',
        message: expect.stringContaining(api.address) as string,
      }),
    )
  })

  test('one listener that is broken keeps no other from being told, and surfaces', async () => {
    await using api = await fakeApi()
    await using source = await open(api.address)
    const fault = new Error('listener is broken')
    const surfaced = new Promise((resolve) => {
      const previous = process.listeners('uncaughtException')
      process.removeAllListeners('uncaughtException')
      process.once('uncaughtException', (error) => {
        for (const listener of previous) process.on('uncaughtException', listener)
        resolve(error)
      })
    })
    source.onChange(() => {
      throw fault
    })
    const changed = nextChange(source)
    api.rotate()
    await changed
    await expect(surfaced).resolves.toBe(fault)
    expect(source.x509Svid()).toBeDefined()
  })

  test('closing it twice is closing it once, and leaves nothing to hand out', async () => {
    await using api = await fakeApi()
    const source = await open(api.address)
    let told = 0
    source.onChange(() => (told += 1))
    await source.close()
    await source.close()
    expect(told).toBe(0)
    expect(() => source.x509Svid()).toThrow(
      expect.objectContaining({
        code: 'CS_NO_IDENTITY',
        message: expect.stringContaining('closed') as string,
      }),
    )
  })
})

describe('picking', () => {
  const identities = [
    { id: '/web' },
    { id: '/api', hint: 'internal' },
    { id: '/batch', hint: 'internal' },
  ]

  test('WL-84: the default identity is the first', async () => {
    await using api = await fakeApi({ identities })
    await using source = await open(api.address)
    expect(source.x509Svid().id).toBe('spiffe://a.example/web')
    expect(source.context().svids).toHaveLength(3)
  })

  test('WL-34: by hint the first that carries it', async () => {
    await using api = await fakeApi({ identities })
    await using source = await open(api.address, { pick: pickByHint('internal') })
    expect(source.x509Svid().id).toBe('spiffe://a.example/api')
  })

  test('WL-86: never another one when the picked one is gone', async () => {
    await using api = await fakeApi({ identities })
    await using source = await open(api.address, { pick: pickByHint('internal') })
    const changed = nextChange(source)
    api.grant([{ id: '/web' }])
    await changed
    expect(() => source.x509Svid()).toThrow(expect.objectContaining({ code: 'CS_NO_IDENTITY' }))
    expect(source.context().svids).toHaveLength(1)
  })

  test('WL-86: opening says that none of the identities is the wanted one', async () => {
    await using api = await fakeApi({ identities })
    const opening = open(api.address, { pick: pickByHint('public'), readyTimeoutMs: 2000 })
    opening.catch(() => undefined)
    await api.called('fetchX509Svid', 1)
    await until(() => clock.waiting() === 1)
    await clock.advance(2000)
    await expect(opening).rejects.toMatchObject({
      code: 'CS_NO_IDENTITY',
      message: expect.stringContaining('none of the 3 identities was picked') as string,
    })
  })
})

describe('opening', () => {
  test.each([
    ['no socket', async () => {}, 'CS_SOCKET_MISSING'],
    ['no identity', 'withdraw', 'CS_NO_IDENTITY'],
    ['an endpoint that is not ready', 'fail', 'CS_ENDPOINT_UNAVAILABLE'],
  ] as const)('in time or not at all: %s', async (_, trouble, code) => {
    await using api = await fakeApi()
    if (trouble === 'withdraw') api.withdraw()
    else if (trouble === 'fail') {
      const failure = { code: status.UNAVAILABLE, details: 'starting up' }
      api.failNext('fetchX509Svid', ...Array.from({ length: 20 }, () => failure))
    } else await api.stop()
    const opening = open(api.address, { readyTimeoutMs: 3000 })
    opening.catch(() => undefined)
    await until(() => clock.waiting() === 2)
    await clock.advance(3000)
    await expect(opening).rejects.toMatchObject({
      code,
      message: expect.stringContaining('no identity within 3000 ms') as string,
    })
    expect(clock.waiting()).toBe(0)
  })

  test('fails at once when waiting cannot help', async () => {
    await using api = await fakeApi()
    api.failNext('fetchX509Svid', { code: status.INVALID_ARGUMENT, details: 'never' })
    await expect(open(api.address)).rejects.toMatchObject({ code: 'CS_ENDPOINT_REFUSED' })
    await expect(open('unix:relative')).rejects.toMatchObject({ code: 'CS_SOCKET_INVALID' })
  })

  test('is given up when its signal aborts, which afterwards means nothing', async () => {
    await using api = await fakeApi()
    api.withdraw()
    const stop = new AbortController()
    const opening = open(api.address, { signal: stop.signal })
    opening.catch(() => undefined)
    await until(() => clock.waiting() === 2)
    const reason = new Error('enough')
    stop.abort(reason)
    await expect(opening).rejects.toBe(reason)

    api.grant([{ id: '/web' }])
    const later = new AbortController()
    await using source = await open(api.address, { signal: later.signal })
    later.abort()
    const changed = nextChange(source)
    api.rotate()
    await changed
  })

  test('a picker that throws ends the opening with its error', async () => {
    await using api = await fakeApi()
    const fault = new Error('picker is broken')
    const pick = () => {
      throw fault
    }
    await expect(open(api.address, { pick })).rejects.toBe(fault)
  })
})

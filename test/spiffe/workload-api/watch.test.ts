import { status } from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import {
  type Runtime,
  type WorkloadApiClient,
  workloadApiClient,
  type X509Context,
} from '../../../spiffe/workload-api/index.js'
import { testAuthority } from '../../support/authority.js'
import { type FakeClock, fakeClock } from '../../support/fake-clock.js'
import { type FakeWorkloadApi, fakeWorkloadApi } from '../../support/fake-workload-api.js'
import { type RecordingListener, recordingListener } from '../../support/recording-listener.js'
import { seededRandom } from '../../support/seeded-random.js'
import { tempFolder } from '../../support/temp-folder.js'
import { until } from '../../support/until.js'

const unavailable = { code: status.UNAVAILABLE, details: 'starting up' }

interface Scene extends AsyncDisposable {
  readonly clock: FakeClock
  /** Every wait there was, in milliseconds. */
  readonly sleeps: readonly number[]
  readonly api: FakeWorkloadApi
  readonly client: WorkloadApiClient
  readonly listener: RecordingListener<X509Context>
  /** Settles when the watch ends. */
  readonly watching: Promise<void>
  readonly stop: AbortController
}

/** A watch over FetchX509SVID of a fake endpoint, under a clock that stands still. */
async function scene(prepare: (api: FakeWorkloadApi) => unknown = () => {}): Promise<Scene> {
  const clock = fakeClock()
  const authority = testAuthority('a.example', { now: clock.now })
  const api = await fakeWorkloadApi({ authority, now: clock.now })
  await prepare(api)
  const sleeps: number[] = []
  const client = workloadApiClient({ address: api.address, runtime: runtimeOf(clock, sleeps) })
  const listener = recordingListener<X509Context>()
  const stop = new AbortController()
  const watching = client.watchX509Context(listener, stop.signal)
  watching.catch(() => undefined)
  return {
    clock,
    sleeps,
    api,
    client,
    listener,
    watching,
    stop,
    async [Symbol.asyncDispose]() {
      stop.abort()
      await watching.catch(() => undefined)
      client.close()
      await api[Symbol.asyncDispose]()
    },
  }
}

const runtimeOf = (clock: FakeClock, sleeps: number[]): Runtime => ({
  clock: {
    now: clock.now,
    sleep(ms, signal) {
      sleeps.push(ms)
      return clock.sleep(ms, signal)
    },
  },
  random: seededRandom(7),
  environment: {},
})

describe('a watch', () => {
  test('WL-13: reports the state at once and every change after it', async () => {
    await using at = await scene()
    await at.listener.until(({ updates }) => updates.length === 1)
    at.api.rotate()
    await at.listener.until(({ updates }) => updates.length === 2)
    const [first, second] = at.listener.updates.map(({ svids }) => svids[0])
    expect(second?.id).toBe(first?.id)
    expect(second?.chain[0].fingerprint).not.toBe(first?.chain[0].fingerprint)
    expect(at.listener.errors).toEqual([])
  })

  test('WL-8, TRAP-13: holds one stream without a deadline', async () => {
    await using at = await scene()
    await at.listener.until(({ updates }) => updates.length === 1)
    await at.clock.advance(3_600_000)
    at.api.rotate()
    await at.listener.until(({ updates }) => updates.length === 2)
    expect(at.api.calls).toHaveLength(1)
    expect(at.api.calls[0]?.deadline).toBe(Number.POSITIVE_INFINITY)
  })

  test('WL-88: an identical message is no change', async () => {
    await using at = await scene()
    await at.listener.until(({ updates }) => updates.length === 1)
    at.api.push('fetchX509Svid', at.api.x509Message())
    at.api.push('fetchX509Svid', at.api.x509Message())
    at.api.rotate()
    await at.listener.until(({ updates }) => updates.length > 1)
    expect(at.listener.updates).toHaveLength(2)
  })

  test('WE-7: every request carries the security header, those of reconnects included', async () => {
    await using at = await scene()
    await at.listener.until(({ updates }) => updates.length === 1)
    at.api.endStreams()
    await at.api.called('fetchX509Svid', 2)
    at.api.failStreams(unavailable)
    await until(() => at.clock.waiting() === 1)
    await at.clock.advance(500)
    await at.api.called('fetchX509Svid', 3)
    const headers = at.api.calls.map(({ metadata }) => metadata.get('workload.spiffe.io'))
    expect(headers).toEqual([['true'], ['true'], ['true']])
  })

  test('WL-10: a stream that simply ends is opened again at once', async () => {
    await using at = await scene()
    await at.listener.until(({ updates }) => updates.length === 1)
    at.api.endStreams()
    await at.api.called('fetchX509Svid', 2)
    at.api.rotate()
    await at.listener.until(({ updates }) => updates.length === 2)
    expect(at.listener.errors).toEqual([])
    expect(at.listener.withdrawals).toEqual([])
  })

  test('WL-10: a lost connection is dialled again at once', async () => {
    await using at = await scene()
    await at.listener.until(({ updates }) => updates.length === 1)
    at.api.dropConnections()
    await at.api.called('fetchX509Svid', 2)
    expect(at.api.connections()).toBe(2)
    expect(at.listener.errors.map(({ code }) => code)).toEqual(['CS_ENDPOINT_UNAVAILABLE'])
    expect(at.listener.withdrawals).toEqual([])
  })

  test('an endpoint that ends every stream with nothing new is not hammered', async () => {
    await using at = await scene()
    await at.listener.until(({ updates }) => updates.length === 1)
    at.api.endStreams()
    await at.api.called('fetchX509Svid', 2)
    at.api.endStreams()
    await until(() => at.clock.waiting() === 1)
    expect(at.api.calls).toHaveLength(2)
    await at.clock.advance(500)
    await at.api.called('fetchX509Svid', 3)
  })

  test('WE-25: Unavailable leads to growing waits, and what was given stays', async () => {
    await using at = await scene()
    await at.listener.until(({ updates }) => updates.length === 1)
    at.api.failNext('fetchX509Svid', ...Array.from({ length: 8 }, () => unavailable))
    at.api.failStreams(unavailable)
    for (let calls = 2; calls <= 10; calls += 1) {
      await until(() => at.clock.waiting() === 1)
      await at.clock.advance(at.sleeps.at(-1) ?? 0)
      await at.api.called('fetchX509Svid', calls)
    }
    const ceilings = [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]
    expect(at.sleeps).toHaveLength(ceilings.length)
    at.sleeps.forEach((ms, turn) => {
      expect(ms).toBeGreaterThanOrEqual((ceilings[turn] ?? 0) / 2)
      expect(ms).toBeLessThanOrEqual(ceilings[turn] ?? 0)
    })
    expect(at.listener.withdrawals).toEqual([])
    expect(at.listener.errors.every(({ code }) => code === 'CS_ENDPOINT_UNAVAILABLE')).toBe(true)
  })

  test('WL-36, WL-38: PermissionDenied withdraws everything once and is tried again', async () => {
    await using at = await scene()
    await at.listener.until(({ updates }) => updates.length === 1)
    at.api.withdraw()
    await at.listener.until(({ withdrawals }) => withdrawals.length === 1)
    for (let calls = 2; calls <= 4; calls += 1) {
      await until(() => at.clock.waiting() === 1)
      await at.clock.advance(10_000)
      await at.api.called('fetchX509Svid', calls)
    }
    expect(at.listener.withdrawals).toHaveLength(1)
    expect(at.listener.withdrawals[0]).toMatchObject({ code: 'CS_NO_IDENTITY' })

    at.api.grant([{ id: '/web' }])
    await until(() => at.clock.waiting() === 1)
    await at.clock.advance(10_000)
    await at.listener.until(({ updates }) => updates.length === 2)
  })

  test('WL-37, WL-42, WL-57, WE-27: a caller without an identity gets it as soon as it is registered', async () => {
    await using at = await scene((api) => api.withdraw())
    await at.listener.until(({ errors }) => errors.length === 1)
    at.api.grant([{ id: '/late' }])
    await until(() => at.clock.waiting() === 1)
    await at.clock.advance(250)
    await at.listener.until(({ updates }) => updates.length === 1)
    expect(at.listener.withdrawals).toEqual([])
  })

  test.each([
    ['WE-23: InvalidArgument', status.INVALID_ARGUMENT],
    ['WE-28: Unimplemented', status.UNIMPLEMENTED],
  ])('%s ends it: one attempt, one error', async (_, code) => {
    await using at = await scene((api) => api.failNext('fetchX509Svid', { code, details: 'never' }))
    await expect(at.watching).rejects.toMatchObject({
      code: 'CS_ENDPOINT_REFUSED',
      message: expect.stringContaining('never') as string,
    })
    expect(at.api.calls).toHaveLength(1)
    expect(at.listener.errors).toHaveLength(1)
  })

  test('OPEN-15: a malformed message leaves the last good one in force, is reported and re-opened after a wait', async () => {
    await using at = await scene()
    await at.listener.until(({ updates }) => updates.length === 1)
    at.api.push('fetchX509Svid', { svids: [], crl: [], federatedBundles: new Map() })
    await at.listener.until(({ errors }) => errors.length === 1)
    expect(at.listener.errors[0]).toMatchObject({ code: 'CS_RESPONSE_INVALID' })
    expect(at.listener.withdrawals).toEqual([])
    expect(at.api.calls).toHaveLength(1)
    await until(() => at.clock.waiting() === 1)
    await at.clock.advance(250)
    await at.api.called('fetchX509Svid', 2)
  })

  test('bytes that are no protobuf message count as malformed', async () => {
    await using at = await scene()
    await at.listener.until(({ updates }) => updates.length === 1)
    at.api.push('fetchX509Svid', Buffer.from([0x0a, 0xff]))
    await at.listener.until(({ errors }) => errors.length === 1)
    expect(at.listener.errors[0]).toMatchObject({ code: 'CS_RESPONSE_INVALID' })
    expect(at.listener.withdrawals).toEqual([])
  })

  test('an endpoint that restarts is found again', async () => {
    await using at = await scene()
    await at.listener.until(({ updates }) => updates.length === 1)
    await at.api.stop()
    await at.listener.until(({ errors }) => errors.some(({ code }) => code === 'CS_SOCKET_MISSING'))
    await until(() => at.clock.waiting() === 1)
    await at.api.start()
    at.api.rotate()
    await at.clock.advance(10_000)
    await at.listener.until(({ updates }) => updates.length === 2)
  })

  test('an endpoint that starts after its client is found', async () => {
    await using at = await scene((api) => api.stop())
    await at.listener.until(({ errors }) => errors.length === 1)
    expect(at.listener.errors[0]).toMatchObject({
      code: 'CS_SOCKET_MISSING',
      message: expect.stringContaining(at.api.address) as string,
    })
    await at.api.start()
    await until(() => at.clock.waiting() === 1)
    await at.clock.advance(250)
    await at.listener.until(({ updates }) => updates.length === 1)
  })

  test('ends when its signal aborts, and reports nothing then', async () => {
    await using at = await scene()
    await at.listener.until(({ updates }) => updates.length === 1)
    at.stop.abort()
    await at.watching
    expect(at.listener.errors).toEqual([])
    expect(at.listener.withdrawals).toEqual([])
  })

  test('ends while it waits to try again', async () => {
    await using at = await scene((api) => api.withdraw())
    await until(() => at.clock.waiting() === 1)
    at.stop.abort()
    await at.watching
    expect(at.clock.waiting()).toBe(0)
  })

  test('a listener that throws ends it with its error', async () => {
    await using at = await scene()
    const fault = new Error('listener is broken')
    const listener = {
      onUpdate: () => {
        throw fault
      },
      onWithdrawn: () => {},
    }
    await expect(at.client.watchX509Context(listener, at.stop.signal)).rejects.toBe(fault)
  })

  test('a failed dial of one watch does not disturb another that is connected', async () => {
    await using at = await scene()
    await at.listener.until(({ updates }) => updates.length === 1)
    const bundles = recordingListener()
    at.api.failNext('fetchX509Bundles', unavailable)
    const watching = at.client.watchX509Bundles(bundles, at.stop.signal)
    await bundles.until(({ errors }) => errors.length === 1)
    await until(() => at.clock.waiting() === 1)
    await at.clock.advance(250)
    await bundles.until(({ updates }) => updates.length === 1)
    at.api.rotate()
    await at.listener.until(({ updates }) => updates.length === 2)
    expect(at.listener.errors).toEqual([])
    at.stop.abort()
    await watching
  })
})

test('a dial to a folder or a plain file finds nothing listening', async () => {
  await using folder = await tempFolder()
  const client = workloadApiClient({ address: `unix://${folder.path}` })
  await expect(client.fetchX509Context()).rejects.toMatchObject({
    code: expect.stringMatching(/^CS_SOCKET_(MISSING|DENIED)$/) as string,
  })
  client.close()
})

test.skipIf(process.getuid?.() === 0)(
  'CS_SOCKET_DENIED: a socket that this user may not open',
  async () => {
    const { chmod } = await import('node:fs/promises')
    await using api = await fakeWorkloadApi({ authority: testAuthority('a.example') })
    await chmod(api.path, 0o000)
    const client = workloadApiClient({ address: api.address })
    await expect(client.fetchX509Context()).rejects.toMatchObject({ code: 'CS_SOCKET_DENIED' })
    client.close()
  },
)

import { type ClientDuplexStream, status } from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import type {
  FollowPolicyRequest,
  FollowPolicyResponse,
} from '../../../proto/gen/countersign/agent/v1/local.js'
import type {
  SignedSnapshot,
  SnapshotReport,
} from '../../../proto/gen/countersign/policy/v1/policy.js'
import { fakeAttestation } from '../../support/fake-attestation.js'
import { fakeIdentities } from '../../support/fake-identities.js'
import { type Received, received, security } from '../../support/local-client.js'
import { type TestEndpoint, testEndpoint } from '../../support/local-endpoint.js'
import { until } from '../../support/until.js'

const mine = ['unix:uid:1000']
const entries = ['/orders', '/shop'].map((path) => ({ path, selectors: mine }))
const orders = 'spiffe://prod.example/orders'
const shop = 'spiffe://prod.example/shop'
const denied = { code: status.PERMISSION_DENIED, details: 'no identity issued' }
const malformed = {
  code: status.INVALID_ARGUMENT,
  details: 'message does not belong to the stream',
}

const snapshot = (target: string, text: string): SignedSnapshot => ({
  target,
  content: Buffer.from(text),
  signature: Buffer.alloc(64, 1),
  signerChain: [Buffer.from('leaf')],
})

const report = (change: Partial<SnapshotReport> = {}): SnapshotReport => ({
  target: orders,
  instance: 'one',
  snapshotId: 'abc',
  generation: 3n,
  state: 'current',
  code: '',
  ...change,
})

interface Followed extends Received<FollowPolicyResponse> {
  start(target?: string, instance?: string): void
  report(report: SnapshotReport): void
  send(request: FollowPolicyRequest): void
  halfClose(): void
}

function follow(endpoint: TestEndpoint): Followed {
  const call: ClientDuplexStream<FollowPolicyRequest, FollowPolicyResponse> =
    endpoint.client.sidecar.followPolicy(security())
  const send = (request: FollowPolicyRequest) => {
    call.write(request)
  }
  return {
    ...received(call),
    send,
    start: (target = '', instance = 'one') =>
      send({ step: { $case: 'start', value: { target, instance } } }),
    report: (value) => send({ step: { $case: 'report', value } }),
    halfClose: () => call.end(),
  }
}

describe('FollowPolicy', () => {
  test('sends at once that there is no snapshot, then each one that comes', async () => {
    const identities = fakeIdentities({ entries })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = follow(endpoint)
    stream.start()
    expect(await stream.next()).toEqual({ snapshot: undefined })
    identities.setSnapshot(snapshot(orders, 'first'))
    const { snapshot: first } = await stream.next()
    expect(first).toMatchObject({ target: orders })
    expect(Buffer.from(first!.content).toString()).toBe('first')
    identities.setSnapshot(snapshot(shop, 'of another target'))
    identities.setSnapshot(snapshot(orders, 'second'))
    expect(Buffer.from((await stream.next()).snapshot!.content).toString()).toBe('second')
    expect(stream.waiting()).toBe(0)
  })

  test.each([
    ['the default identity', '', orders],
    ['an identity of its own', shop, shop],
  ])('follows %s of the caller', async (_, target, expected) => {
    const identities = fakeIdentities({ entries })
    identities.setSnapshot(snapshot(orders, orders))
    identities.setSnapshot(snapshot(shop, shop))
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = follow(endpoint)
    stream.start(target)
    expect((await stream.next()).snapshot?.target).toBe(expected)
  })

  test('does not need an SVID in hand', async () => {
    const identities = fakeIdentities({ entries, prefetch: false })
    identities.setSnapshot(snapshot(orders, 'x'))
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = follow(endpoint)
    stream.start()
    expect((await stream.next()).snapshot).toBeDefined()
  })

  test.each([
    ['an identity of somebody else', 'spiffe://prod.example/billing'],
    ['what is no SPIFFE ID', 'orders'],
  ])('refuses %s', async (_, target) => {
    const identities = fakeIdentities({
      entries: [...entries, { path: '/billing', selectors: ['unix:uid:2000'] }],
    })
    identities.setSnapshot(snapshot('spiffe://prod.example/billing', 'secret'))
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = follow(endpoint)
    stream.start(target)
    expect(await stream.ended).toEqual(denied)
    expect(stream.waiting()).toBe(0)
  })

  test('ends when the caller loses the target, though it keeps another identity', async () => {
    const identities = fakeIdentities({ entries })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = follow(endpoint)
    stream.start(orders)
    await stream.next()
    identities.setEntries(entries.slice(1))
    expect(await stream.ended).toEqual(denied)
    expect(identities.forgotten).toEqual([[orders, 'one']])
  })

  test('ends when the caller has become another program', async () => {
    const identities = fakeIdentities({ entries })
    const attestation = fakeAttestation()
    await using endpoint = await testEndpoint({ identities, attestation })
    const stream = follow(endpoint)
    stream.start()
    await stream.next()
    attestation.exec()
    identities.setSnapshot(snapshot(orders, 'x'))
    expect(await stream.ended).toEqual(denied)
    expect(stream.waiting()).toBe(0)
  })

  test('is unavailable until the agent holds something', async () => {
    const identities = fakeIdentities({ entries })
    identities.setReady(false)
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = follow(endpoint)
    stream.start()
    expect(await stream.ended).toMatchObject({ code: status.UNAVAILABLE })
  })
})

describe('reports of a sidecar', () => {
  test('are passed on, and forgotten when its stream ends', async () => {
    const identities = fakeIdentities({ entries })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = follow(endpoint)
    stream.start(orders)
    stream.report(report())
    stream.report(report({ state: 'invalid', code: 'CS_SNAPSHOT_INVALID' }))
    await until(() => identities.reports.length === 2)
    expect(identities.reports).toEqual([
      report(),
      report({ state: 'invalid', code: 'CS_SNAPSHOT_INVALID' }),
    ])
    expect(identities.forgotten).toEqual([])
    stream.cancel()
    await until(() => identities.forgotten.length === 1)
    expect(identities.forgotten).toEqual([[orders, 'one']])
  })

  test('survive the end of an older stream of the same instance', async () => {
    const identities = fakeIdentities({ entries })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const [older, newer] = [follow(endpoint), follow(endpoint)]
    older.start(orders)
    await older.next()
    newer.start(orders)
    await newer.next()
    older.cancel()
    await until(() => endpoint.endpoints.streams() === 1)
    expect(identities.forgotten).toEqual([])
    newer.cancel()
    await until(() => endpoint.endpoints.streams() === 0)
    expect(identities.forgotten).toEqual([[orders, 'one']])
  })

  test('of an older stream of the same instance are not taken, also after the newer one has ended', async () => {
    const identities = fakeIdentities({ entries })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const [older, newer] = [follow(endpoint), follow(endpoint)]
    older.start(orders)
    await older.next()
    newer.start(orders)
    await newer.next()
    newer.cancel()
    await until(() => identities.forgotten.length === 1)
    older.report(report())
    older.report(report({ target: shop }))
    expect(await older.ended).toEqual(malformed)
    expect(identities.reports).toEqual([])
  })

  test('may end while the stream goes on', async () => {
    const identities = fakeIdentities({ entries })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = follow(endpoint)
    stream.start(orders)
    await stream.next()
    stream.halfClose()
    identities.setSnapshot(snapshot(orders, 'x'))
    expect((await stream.next()).snapshot).toBeDefined()
  })

  test.each<[string, Partial<SnapshotReport>]>([
    ['another target', { target: shop }],
    ['another instance', { instance: 'two' }],
    ['a state that is none', { state: 'fine' }],
    ['an endless snapshot id', { snapshotId: 'a'.repeat(257) }],
    ['an endless code', { code: 'a'.repeat(257) }],
  ])('with %s end the stream', async (_, change) => {
    const identities = fakeIdentities({ entries })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = follow(endpoint)
    stream.start(orders)
    stream.report(report(change))
    expect(await stream.ended).toEqual(malformed)
    expect(identities.reports).toEqual([])
  })

  test.each<[string, (stream: Followed) => void]>([
    ['a report before the start', (stream) => stream.report(report())],
    ['an empty message', (stream) => stream.send({ step: undefined })],
    ['a start without an instance', (stream) => stream.start(orders, '')],
    ['a start with an endless instance', (stream) => stream.start(orders, 'i'.repeat(257))],
    [
      'a second start',
      (stream) => {
        stream.start(orders)
        stream.start(orders)
      },
    ],
  ])('are refused after %s', async (_, send) => {
    const identities = fakeIdentities({ entries })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = follow(endpoint)
    send(stream)
    expect(await stream.ended).toEqual(malformed)
  })

  test('of a caller that has ended are not believed', async () => {
    const identities = fakeIdentities({ entries })
    const attestation = fakeAttestation()
    await using endpoint = await testEndpoint({ identities, attestation })
    const stream = follow(endpoint)
    stream.start(orders)
    await stream.next()
    attestation.exit()
    stream.report(report())
    expect(await stream.ended).toEqual(denied)
    expect(identities.reports).toEqual([])
  })

  test('come one after the other, however fast they are sent', async () => {
    const identities = fakeIdentities({ entries })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = follow(endpoint)
    stream.start(orders)
    for (let generation = 0n; generation < 300n; generation += 1n) {
      stream.report(report({ generation }))
    }
    await until(() => identities.reports.length === 300)
    expect(identities.reports.map(({ generation }) => Number(generation))).toEqual(
      Array.from({ length: 300 }, (_, at) => at),
    )
  })
})

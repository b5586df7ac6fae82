import { status } from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import { entitlements } from '../../../agent/workload-api/entitlements.js'
import { follower } from '../../../agent/workload-api/follower.js'
import { journal } from '../../../agent/workload-api/journal.js'
import { messages } from '../../../agent/workload-api/messages.js'
import type { Reply } from '../../../agent/workload-api/replies.js'
import type { StreamSink } from '../../../agent/workload-api/stream-sink.js'
import { silentLog } from '../../../platform/log.js'
import { JWTBundlesResponse } from '../../../spiffe/workload-api/index.js'
import { testAuthority } from '../../support/authority.js'
import { fakeAttestation } from '../../support/fake-attestation.js'
import { fakeClock } from '../../support/fake-clock.js'
import { type FakeIdentities, fakeIdentities } from '../../support/fake-identities.js'
import { received, security } from '../../support/local-client.js'
import { testEndpoint } from '../../support/local-endpoint.js'
import { until } from '../../support/until.js'

const mine = ['unix:uid:1000']
const denied = { code: status.PERMISSION_DENIED, details: 'no identity issued' }
const web = { path: '/web', selectors: mine }

/** A reader that takes a message only when it is told to. */
function slowSink() {
  const over = new AbortController()
  const written: Buffer[] = []
  let take = () => {}
  const sink: StreamSink & { reply: Reply | undefined } = {
    reply: undefined,
    over: over.signal,
    write: (bytes) =>
      new Promise((resolve) => {
        written.push(bytes)
        take = resolve
      }),
    end(reply) {
      sink.reply = reply
      over.abort()
    },
  }
  return { sink, written, take: () => take() }
}

function followBundles(identities: FakeIdentities, sink: StreamSink) {
  const attestation = fakeAttestation()
  const made = messages(identities)
  const entitled = entitlements(identities)
  const connection = {
    caller: attestation.processWithPid(1),
    path: '/run/x.sock',
    closed: new AbortController().signal,
    calls: { opened: () => {}, closed: () => {}, ofUser: () => 0 },
  }
  const stream = follower({
    rpc: 'FetchJWTBundles',
    connection,
    sink,
    clock: fakeClock(),
    journal: journal({ clock: fakeClock(), log: silentLog }),
    patienceMs: 1000,
    view: (caller) => ({
      message: made.jwtBundles(entitled.entriesOf(caller)),
      missing: [],
      granted: () => ({}),
    }),
  })
  return { stream, attestation, made, entitled }
}

describe('a stream with a slow reader', () => {
  test('holds one message at a time, and the next one is the latest', async () => {
    const identities = fakeIdentities({
      entries: [{ ...web, federatesWith: ['a.example', 'b.example', 'c.example'] }],
    })
    const { sink, written, take } = slowSink()
    const { stream } = followBundles(identities, sink)
    void stream.deliver()
    await until(() => written.length === 1)
    for (const name of ['a.example', 'b.example', 'c.example']) {
      identities.setBundle(testAuthority(name).bundle)
      void stream.deliver()
    }
    expect(written).toHaveLength(1)
    take()
    await until(() => written.length === 2)
    expect(JWTBundlesResponse.decode(written[1]!).bundles.size).toBe(4)
    take()
    await new Promise((resolve) => setImmediate(resolve))
    expect(written).toHaveLength(2)
  })
})

describe('a message', () => {
  test('is encoded once for all callers that are to hold the same', () => {
    const identities = fakeIdentities({
      entries: [web, { path: '/api', selectors: ['unix:uid:2'] }],
    })
    const made = messages(identities)
    const [one, other] = identities.entries()
    const bytes = made.x509Svids([one!])!.encode()
    expect(made.x509Svids([one!])!.encode()).toBe(bytes)
    identities.touch()
    expect(made.x509Svids([one!])!.encode()).toBe(bytes)
    expect(made.x509Svids([other!])!.encode()).not.toBe(bytes)
  })

  test('is not sent again when new objects say the same as the old ones', async () => {
    const identities = fakeIdentities({ entries: [web] })
    const { sink, written, take } = slowSink()
    const { stream } = followBundles(identities, sink)
    void stream.deliver()
    await until(() => written.length === 1)
    take()
    identities.setBundle({ ...identities.authority.bundle })
    expect(stream.standing()).toBe('stale')
    void stream.deliver()
    await until(() => stream.standing() === 'current')
    expect(written).toHaveLength(1)
  })
})

describe('the caller of an open stream', () => {
  test('SB-11 is refused with the next push after it has executed another binary', async () => {
    const identities = fakeIdentities({ entries: [web] })
    const attestation = fakeAttestation()
    await using endpoint = await testEndpoint({ identities, attestation })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    await stream.next()
    attestation.exec()
    identities.issue()
    expect(await stream.ended).toEqual(denied)
    expect(stream.waiting()).toBe(0)
  })

  test('SB-11 is refused with the next push after it has ended', async () => {
    const identities = fakeIdentities({ entries: [web] })
    const attestation = fakeAttestation()
    await using endpoint = await testEndpoint({ identities, attestation })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    await stream.next()
    attestation.exit()
    identities.issue()
    expect(await stream.ended).toEqual(denied)
    expect(stream.waiting()).toBe(0)
  })

  test('SB-11 loses what it is no longer entitled to within the time between two looks', async () => {
    const identities = fakeIdentities({ entries: [web, { path: '/api', selectors: ['k8s:ns:a'] }] })
    const attestation = fakeAttestation([...mine, 'k8s:ns:a'])
    const clock = fakeClock()
    await using endpoint = await testEndpoint({
      identities,
      attestation,
      clock,
      reattestEveryMs: 10_000,
    })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    expect((await stream.next()).svids).toHaveLength(2)
    attestation.show(mine)
    await clock.advance(10_000)
    expect((await stream.next()).svids).toHaveLength(1)
    attestation.show([])
    await clock.advance(10_000)
    expect(await stream.ended).toEqual(denied)
  })

  test('WL-9 may hang up at any moment, also while it is being looked at', async () => {
    const identities = fakeIdentities({ entries: [web] })
    const attestation = fakeAttestation()
    await using endpoint = await testEndpoint({ identities, attestation })
    let release = () => {}
    attestation.hold(
      new Promise((resolve) => {
        release = resolve
      }),
    )
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    await until(() => attestation.looks === 1)
    stream.cancel()
    await until(() => endpoint.endpoints.streams() === 0)
    release()
    attestation.hold(undefined)
    const next = received(endpoint.client.workload.fetchX509Svid({}, security()))
    await expect(next.next()).resolves.toBeDefined()
  })

  test('is told that the agent stops when it does', async () => {
    const identities = fakeIdentities({ entries: [web] })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    await stream.next()
    await endpoint.endpoints.close()
    expect(await stream.ended).toEqual({ code: status.UNAVAILABLE, details: 'agent is stopping' })
  })

  test('is let go of when its connection closes', async () => {
    const attestation = fakeAttestation()
    await using endpoint = await testEndpoint({ attestation })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    await stream.ended
    expect(attestation.held).toBe(1)
    endpoint.client[Symbol.dispose]()
    await until(() => attestation.held === 0)
  })
})

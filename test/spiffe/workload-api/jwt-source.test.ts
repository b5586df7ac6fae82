import { status } from '@grpc/grpc-js'
import { beforeEach, describe, expect, test } from 'vitest'
import { parseSpiffeId } from '../../../spiffe/index.js'
import { JwtSource, type Runtime } from '../../../spiffe/workload-api/index.js'
import { testAuthority } from '../../support/authority.js'
import { type FakeClock, fakeClock } from '../../support/fake-clock.js'
import { type FakeWorkloadApi, fakeWorkloadApi } from '../../support/fake-workload-api.js'
import { seededRandom } from '../../support/seeded-random.js'
import { until } from '../../support/until.js'

let clock: FakeClock
beforeEach(() => {
  clock = fakeClock()
})

interface Scene extends AsyncDisposable {
  readonly api: FakeWorkloadApi
  readonly source: JwtSource
  readonly warnings: string[]
  fetches(): number
}

async function scene(): Promise<Scene> {
  const authority = testAuthority('a.example', { now: clock.now })
  const api = await fakeWorkloadApi({
    authority,
    identities: [{ id: '/web' }, { id: '/api' }],
    now: clock.now,
  })
  const runtime: Runtime = { clock, random: seededRandom(1), environment: {} }
  const warnings: string[] = []
  const log = { info: () => undefined, warn: (_: object, text: string) => void warnings.push(text) }
  const source = await JwtSource.open({ address: api.address, runtime, log })
  return {
    api,
    source,
    warnings,
    fetches: () => api.calls.filter(({ method }) => method === 'fetchJwtsvid').length,
    async [Symbol.asyncDispose]() {
      await source.close()
      await api[Symbol.asyncDispose]()
    },
  }
}

describe('JwtSource', () => {
  test('fetches once per audience and identity', async () => {
    await using at = await scene()
    const id = parseSpiffeId('spiffe://a.example/api')
    const first = await at.source.jwtSvid({ audience: 'ledger' })
    expect(first.id).toBe('spiffe://a.example/web')
    expect(await at.source.jwtSvid({ audience: 'ledger' })).toBe(first)
    expect(await at.source.jwtSvid({ audience: ['ledger'] })).toBe(first)
    expect((await at.source.jwtSvid({ audience: 'bank' })).audience).toEqual(['bank'])
    expect((await at.source.jwtSvid({ audience: 'ledger', id })).id).toBe(id)
    expect(at.fetches()).toBe(3)
  })

  test('the order of audiences does not matter', async () => {
    await using at = await scene()
    const first = await at.source.jwtSvid({ audience: ['bank', 'ledger'] })
    expect(await at.source.jwtSvid({ audience: ['ledger', 'bank', 'bank'] })).toBe(first)
  })

  test('many callers at once cause one fetch', async () => {
    await using at = await scene()
    const tokens = await Promise.all(
      Array.from({ length: 50 }, () => at.source.jwtSvid({ audience: 'ledger' })),
    )
    expect(new Set(tokens).size).toBe(1)
    expect(at.fetches()).toBe(1)
  })

  test('renews at half of the life while its caller goes on with the old token', async () => {
    await using at = await scene()
    const first = await at.source.jwtSvid({ audience: 'ledger' })
    await clock.advance(149_000)
    expect(await at.source.jwtSvid({ audience: 'ledger' })).toBe(first)
    expect(at.fetches()).toBe(1)
    await clock.advance(1000)
    expect(await at.source.jwtSvid({ audience: 'ledger' })).toBe(first)
    await at.api.called('fetchJwtsvid', 2)
    let second = first
    while (second === first) {
      second = await at.source.jwtSvid({ audience: 'ledger' })
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(second.expiresAt).toBe(first.expiresAt + 150_000)
    expect(at.fetches()).toBe(2)
  })

  test('goes on with the old token while renewing fails, and asks again only after a pause', async () => {
    await using at = await scene()
    const first = await at.source.jwtSvid({ audience: 'ledger' })
    const failure = { code: status.UNAVAILABLE, details: 'overloaded' }
    at.api.failNext('fetchJwtsvid', failure, failure)
    await clock.advance(150_000)
    expect(await at.source.jwtSvid({ audience: 'ledger' })).toBe(first)
    await until(() => at.warnings.includes('jwt-svid not refreshed'))
    expect(await at.source.jwtSvid({ audience: 'ledger' })).toBe(first)
    expect(at.fetches()).toBe(2)
    await clock.advance(5000)
    expect(await at.source.jwtSvid({ audience: 'ledger' })).toBe(first)
    await at.api.called('fetchJwtsvid', 3)
  })

  test('a token that is over is never handed out', async () => {
    await using at = await scene()
    const first = await at.source.jwtSvid({ audience: 'ledger' })
    await clock.advance(299_000)
    const second = await at.source.jwtSvid({ audience: 'ledger' })
    expect(second).not.toBe(first)
    const failure = { code: status.UNAVAILABLE, details: 'overloaded' }
    at.api.failNext('fetchJwtsvid', failure)
    await clock.advance(300_000)
    await expect(at.source.jwtSvid({ audience: 'ledger' })).rejects.toMatchObject({
      code: 'CS_ENDPOINT_UNAVAILABLE',
    })
    await expect(at.source.jwtSvid({ audience: 'ledger' })).resolves.toBeDefined()
  })

  test('an endpoint that answers with an expired token is refused', async () => {
    await using at = await scene()
    const authority = testAuthority('a.example', { now: clock.now })
    const svid = authority.issueJwt({ id: '/web', audience: 'ledger', ttl: -10 })
    at.api.answerJwt({ svids: [{ spiffeId: 'spiffe://a.example/web', svid, hint: '' }] })
    await expect(at.source.jwtSvid({ audience: 'ledger' })).rejects.toMatchObject({
      code: 'CS_RESPONSE_INVALID',
    })
  })

  test('forgets a token when the identity is withdrawn', async () => {
    await using at = await scene()
    await at.source.jwtSvid({ audience: 'ledger' })
    await clock.advance(150_000)
    at.api.withdraw()
    await at.source.jwtSvid({ audience: 'ledger' })
    await until(() => at.warnings.includes('jwt-svid not refreshed'))
    await expect(at.source.jwtSvid({ audience: 'ledger' })).rejects.toMatchObject({
      code: 'CS_NO_IDENTITY',
    })
  })

  test('a caller may give up waiting without spoiling it for others', async () => {
    await using at = await scene()
    at.api.hang('fetchJwtsvid', true)
    const stop = new AbortController()
    const impatient = at.source.jwtSvid({ audience: 'ledger', signal: stop.signal })
    const patient = at.source.jwtSvid({ audience: 'ledger' })
    patient.catch(() => undefined)
    await at.api.called('fetchJwtsvid', 1)
    const reason = new Error('enough')
    stop.abort(reason)
    await expect(impatient).rejects.toBe(reason)
    await clock.advance(30_000)
    await expect(patient).rejects.toMatchObject({ code: 'CS_ENDPOINT_UNAVAILABLE' })
    at.api.hang('fetchJwtsvid', false)
    await expect(at.source.jwtSvid({ audience: 'ledger' })).resolves.toBeDefined()
  })

  test('closing ends a fetch that hangs', async () => {
    await using at = await scene()
    at.api.hang('fetchJwtsvid', true)
    const waiting = at.source.jwtSvid({ audience: 'ledger' })
    waiting.catch(() => undefined)
    await at.api.called('fetchJwtsvid', 1)
    await at.source.close()
    await expect(waiting).rejects.toMatchObject({ message: 'source is closed' })
    await expect(at.source.jwtSvid({ audience: 'bank' })).rejects.toMatchObject({
      message: 'source is closed',
    })
  })
})

describe('verifying', () => {
  test('WL-66: with the bundle of the subject and no other', async () => {
    const a = testAuthority('a.example', { now: clock.now })
    const b = testAuthority('b.example', { now: clock.now })
    await using api = await fakeWorkloadApi({ authority: a, federated: [b], now: clock.now })
    const runtime: Runtime = { clock, random: seededRandom(1), environment: {} }
    await using source = await JwtSource.open({ address: api.address, runtime })
    const good = b.issueJwt({ id: '/web', audience: 'ledger' })
    expect(source.verify({ token: good, audience: 'ledger' }).id).toBe('spiffe://b.example/web')

    const forged = b.issueJwt({ id: 'spiffe://a.example/web', audience: 'ledger' })
    expect(() => source.verify({ token: forged, audience: 'ledger' })).toThrow()
    expect(() => source.verify({ token: good, audience: 'bank' })).toThrow(
      expect.objectContaining({ code: 'CS_JWT_AUDIENCE_MISMATCH' }),
    )
  })

  test('WL-58, WL-67: not any more once the bundle is withdrawn', async () => {
    const a = testAuthority('a.example', { now: clock.now })
    const b = testAuthority('b.example', { now: clock.now })
    await using api = await fakeWorkloadApi({ authority: a, federated: [b], now: clock.now })
    const runtime: Runtime = { clock, random: seededRandom(1), environment: {} }
    await using source = await JwtSource.open({ address: api.address, runtime })
    const changed = new Promise<void>((resolve) => source.onChange(resolve))
    api.federate([])
    await changed
    const token = b.issueJwt({ id: '/web', audience: 'ledger' })
    expect(() => source.verify({ token, audience: 'ledger' })).toThrow(
      expect.objectContaining({ code: 'CS_BUNDLE_NOT_FOUND' }),
    )
  })

  test('opening fails in time with the reason', async () => {
    const authority = testAuthority('a.example', { now: clock.now })
    await using api = await fakeWorkloadApi({ authority, identities: [], now: clock.now })
    const runtime: Runtime = { clock, random: seededRandom(1), environment: {} }
    const opening = JwtSource.open({ address: api.address, runtime, readyTimeoutMs: 1000 })
    opening.catch(() => undefined)
    await until(() => clock.waiting() === 2)
    await clock.advance(1000)
    await expect(opening).rejects.toMatchObject({
      code: 'CS_NO_IDENTITY',
      message: expect.stringContaining('no jwt bundle within 1000 ms') as string,
    })
  })
})

import { status } from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import { type Clock, systemClock } from '../../platform/clock.js'
import { type PolicyInForce, policyInForce } from '../../sidecar/policy-in-force.js'
import { type FollowedPolicy, followPolicy } from '../../sidecar/policy-source.js'
import { noSnapshotFile } from '../../sidecar/snapshot-file.js'
import { makeSpiffeId } from '../../spiffe/index.js'
import { testAuthority } from '../support/authority.js'
import { type FakePolicyAgent, fakePolicyAgent } from '../support/fake-policy-agent.js'
import { memoryLog } from '../support/memory-log.js'
import { testIdentity } from '../support/running-proxy.js'
import { seededRandom } from '../support/seeded-random.js'
import { ORDERS_PATH, signedSnapshot } from '../support/signed-snapshot.js'
import { tempFolder } from '../support/temp-folder.js'
import { until } from '../support/until.js'

const authority = testAuthority('prod.test')
const target = makeSpiffeId(authority.trustDomain, ORDERS_PATH)
const own = authority.issueX509({ id: target })
const snapshot = (generation: number) => signedSnapshot({ authority, generation })

interface Stage extends AsyncDisposable {
  readonly agent: FakePolicyAgent
  readonly policy: PolicyInForce
  readonly following: FollowedPolicy
  readonly log: ReturnType<typeof memoryLog>
  /** How long was waited before each further try. */
  readonly waits: readonly number[]
  readonly identity: ReturnType<typeof testIdentity>
}

/** Between two tries there is next to no wait, and every stream seems to have lasted `lastingMs`. */
function hurried(waits: number[], lastingMs: number): Clock {
  let looks = 0n
  return {
    ...systemClock,
    hrtime: () => (looks += BigInt(lastingMs) * 1_000_000n),
    sleep(ms, signal) {
      waits.push(ms)
      return systemClock.sleep(1, signal)
    },
  }
}

interface StageOptions {
  readonly bundles?: 'none'
  readonly away?: true
  readonly lastingMs?: number
}

async function stage(options: StageOptions = {}) {
  const folder = await tempFolder()
  const agent = await fakePolicyAgent(folder.file('agent.sock'))
  if (options.away) await agent.kill()
  const waits: number[] = []
  const clock = hurried(waits, options.lastingMs ?? 0)
  const log = memoryLog()
  const identity = testIdentity(own, options.bundles === 'none' ? [] : [authority.bundle])
  const shared = { target, instance: 'one', clock, log }
  const policy = policyInForce({ ...shared, identity, file: noSnapshotFile })
  const following = followPolicy({
    ...shared,
    policy,
    random: seededRandom(1),
    address: { kind: 'unix', path: agent.path },
  })
  const made: Stage = {
    agent,
    policy,
    following,
    log,
    waits,
    identity,
    async [Symbol.asyncDispose]() {
      await following[Symbol.asyncDispose]()
      await policy[Symbol.asyncDispose]()
      await agent[Symbol.asyncDispose]()
      await folder[Symbol.asyncDispose]()
    },
  }
  return made
}

describe('the policy stream', () => {
  test('names the target and the instance, and says on purpose that it speaks gRPC', async () => {
    await using here = await stage()
    const stream = await here.agent.nextStream()
    await stream.heard(1)
    expect(stream.received).toEqual([
      { step: { $case: 'start', value: { target, instance: 'one' } } },
    ])
    expect(stream.metadata.get('workload.spiffe.io')).toEqual(['true'])
    expect(here.following.connected()).toBe(false)
  })

  test('brings each snapshot into force, and each is reported in its turn', async () => {
    await using here = await stage()
    const stream = await here.agent.nextStream()
    for (const generation of [1, 2, 3]) {
      stream.send(snapshot(generation))
      await stream.heard(1 + generation)
    }
    expect(here.policy.current()).toMatchObject({ generation: 3 })
    expect(stream.reports.map(({ generation }) => generation)).toEqual([1n, 2n, 3n])
    expect(here.following.connected()).toBe(true)
  })

  test('ends on the newest report when many snapshots come at once', async () => {
    await using here = await stage()
    const stream = await here.agent.nextStream()
    for (let generation = 1; generation <= 40; generation += 1) stream.send(snapshot(generation))
    await until(() => stream.reports.at(-1)?.generation === 40n)
    const reported = stream.reports.map(({ generation }) => Number(generation))
    expect(reported).toEqual([...new Set(reported)].sort((a, b) => a - b))
  })

  test('reports what is refused, and what it holds instead', async () => {
    await using here = await stage()
    const stream = await here.agent.nextStream()
    stream.send(snapshot(2))
    await stream.heard(2)
    stream.send({ ...snapshot(3), signature: Buffer.alloc(64, 1) })
    await stream.heard(3)
    expect(stream.reports[1]).toMatchObject({
      state: 'invalid',
      code: 'CS_SNAPSHOT_UNTRUSTED',
      generation: 2n,
      snapshotId: here.policy.current()?.id,
    })
  })

  test('reports as stale what it holds when the agent has nothing for it', async () => {
    await using here = await stage()
    const stream = await here.agent.nextStream()
    stream.send(undefined)
    await stream.heard(2)
    expect(stream.reports).toMatchObject([{ state: 'stale', code: 'CS_POLICY_UNAVAILABLE' }])
    expect(here.following.connected()).toBe(true)
  })

  test('reports anew when a late bundle turns a refusal into a policy', async () => {
    await using here = await stage({ bundles: 'none' })
    const stream = await here.agent.nextStream()
    stream.send(snapshot(4))
    await stream.heard(2)
    here.identity.setBundles([authority.bundle])
    await stream.heard(3)
    expect(stream.reports.map(({ state }) => state)).toEqual(['invalid', 'current'])
  })
})

describe('when the agent goes away', () => {
  test('the policy stays in force, and is reported again to the agent that comes back', async () => {
    await using here = await stage()
    const first = await here.agent.nextStream()
    first.send(snapshot(1))
    await first.heard(2)
    await here.agent.kill()
    await until(() => !here.following.connected())
    expect(here.policy.current()).toMatchObject({ generation: 1 })
    expect(here.following.fault()).toMatch(/^UNAVAILABLE: /)
    await here.agent.start()
    const second = await here.agent.nextStream()
    second.send(snapshot(1))
    await second.heard(2)
    expect(second.reports).toMatchObject([{ state: 'current', generation: 1n }])
    expect(here.following.connected()).toBe(true)
    expect(here.following.fault()).toBeUndefined()
  })

  test('it is tried again and again, with waits that grow up to five seconds', async () => {
    await using here = await stage({ away: true })
    await until(() => here.waits.length >= 9)
    here.waits.slice(0, 9).forEach((wait, at) => {
      const ceiling = Math.min(100 * 2 ** at, 5000)
      expect(wait).toBeGreaterThanOrEqual(ceiling / 2)
      expect(wait).toBeLessThanOrEqual(ceiling)
    })
    await here.agent.start()
    await here.agent.nextStream()
  })

  test('one warning is written for one reason', async () => {
    await using here = await stage({ away: true })
    await until(() => here.waits.length >= 5)
    const ended = here.log.lines.filter(({ message }) => message === 'policy stream ended')
    expect(ended.filter(({ level }) => level === 'warn')).toMatchObject([
      { code: 'CS_POLICY_UNAVAILABLE' },
    ])
  })

  test('an agent that ends every stream at once is not hammered', async () => {
    await using here = await stage()
    for (let round = 0; round < 5; round += 1) {
      const stream = await here.agent.nextStream()
      stream.send(snapshot(1))
      stream.end()
    }
    await until(() => here.waits.length >= 5)
    expect(here.waits[4]).toBeGreaterThanOrEqual(800)
  })

  test('after a stream that lasted it is tried again soon', async () => {
    await using here = await stage({ lastingMs: 2000 })
    for (let round = 0; round < 4; round += 1) (await here.agent.nextStream()).end()
    await until(() => here.waits.length >= 4)
    expect(Math.max(...here.waits)).toBeLessThanOrEqual(100)
  })

  test.each([
    [status.PERMISSION_DENIED, 'no identity issued'],
    [status.INVALID_ARGUMENT, 'message does not belong to the stream'],
    [status.UNIMPLEMENTED, 'no such service'],
  ])('a refusal with status %i is not the end of it', async (code, details) => {
    await using here = await stage()
    const first = await here.agent.nextStream()
    first.send(snapshot(1))
    await first.heard(2)
    first.fail(code, details)
    const second = await here.agent.nextStream()
    expect(here.following.fault()).toBe(`${status[code]}: ${details}`)
    expect(here.policy.current()).toMatchObject({ generation: 1 })
    second.send(snapshot(2))
    await second.heard(2)
    expect(here.policy.current()).toMatchObject({ generation: 2 })
  })

  test('a report that races with the end of the stream harms nothing', async () => {
    await using here = await stage()
    for (let generation = 1; generation <= 20; generation += 1) {
      const stream = await here.agent.nextStream()
      stream.send(snapshot(generation))
      if (generation % 3 === 0) await here.agent.kill().then(() => here.agent.start())
      else if (generation % 3 === 1) stream.end()
      else stream.fail(status.UNAVAILABLE, 'agent is stopping')
    }
    const last = await here.agent.nextStream()
    last.send(snapshot(21))
    await last.heard(2)
    expect(last.reports).toMatchObject([{ generation: 21n, state: 'current' }])
  })

  test('no connection of an earlier stream is left open', async () => {
    await using here = await stage()
    for (let round = 0; round < 3; round += 1) {
      const stream = await here.agent.nextStream()
      stream.end()
    }
    await here.agent.nextStream()
    await until(() => here.agent.openConnections === 1)
  })
})

describe('closing', () => {
  test('gives up the stream and its connection', async () => {
    await using here = await stage()
    const stream = await here.agent.nextStream()
    stream.send(snapshot(1))
    await stream.heard(2)
    await here.following[Symbol.asyncDispose]()
    await stream.cancelled
    expect(here.following.connected()).toBe(false)
    await until(() => here.agent.openConnections === 0)
  })

  test('ends a wait for an agent that is away', async () => {
    await using here = await stage({ away: true })
    await until(() => here.waits.length > 0)
    await here.following[Symbol.asyncDispose]()
    const tried = here.waits.length
    await new Promise((resolve) => setImmediate(resolve))
    expect(here.waits).toHaveLength(tried)
  })

  test('twice is the same as once', async () => {
    await using here = await stage()
    await here.following[Symbol.asyncDispose]()
    await here.following[Symbol.asyncDispose]()
  })

  test('takes nothing that comes afterwards', async () => {
    await using here = await stage()
    const stream = await here.agent.nextStream()
    const over = here.following[Symbol.asyncDispose]()
    stream.send(snapshot(1))
    await over
    expect(here.policy.current()).toBeUndefined()
  })
})

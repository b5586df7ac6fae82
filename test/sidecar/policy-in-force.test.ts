import { readFile, writeFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { PlatformError } from '../../platform/errors.js'
import type { SignedSnapshot } from '../../proto/gen/countersign/policy/v1/policy.js'
import { policyInForce } from '../../sidecar/policy-in-force.js'
import { noSnapshotFile, type SnapshotFile, snapshotFile } from '../../sidecar/snapshot-file.js'
import { makeSpiffeId } from '../../spiffe/index.js'
import { testAuthority } from '../support/authority.js'
import { fakeClock } from '../support/fake-clock.js'
import { memoryLog } from '../support/memory-log.js'
import { type TestIdentity, testIdentity } from '../support/running-proxy.js'
import {
  ORDERS_PATH,
  policySigner,
  type SnapshotWish,
  signedContent,
  signedSnapshot,
  snapshotContent,
} from '../support/signed-snapshot.js'
import { type TempFolder, tempFolder } from '../support/temp-folder.js'

const HOUR_MS = 3_600_000

function stage(file: SnapshotFile = noSnapshotFile) {
  const clock = fakeClock()
  const authority = testAuthority('prod.test', { now: () => clock.now() })
  const target = makeSpiffeId(authority.trustDomain, ORDERS_PATH)
  const identity = testIdentity(authority.issueX509({ id: target }), [authority.bundle])
  const log = memoryLog()
  const open = (changed: { file?: SnapshotFile; identity?: TestIdentity } = {}) =>
    policyInForce({ target, instance: 'one', identity, file, clock, log, ...changed })
  const snapshot = (wish: Omit<SnapshotWish, 'authority'> = {}) =>
    signedSnapshot({ authority, ...wish })
  return { clock, authority, target, identity, log, open, snapshot }
}

type Stage = ReturnType<typeof stage>

const incompatible = ({ authority }: Stage): SignedSnapshot => {
  const { target, content } = snapshotContent({ authority, generation: 9 })
  const text = Buffer.from(content).toString().replace('"requires":[]', '"requires":["magic"]')
  return signedContent({ target, content: Buffer.from(text), signer: policySigner(authority) })
}
const invalid = ({ authority, target }: Stage): SignedSnapshot =>
  signedContent({ target, content: Buffer.from('{}x'), signer: policySigner(authority) })
const untrusted = ({ snapshot }: Stage): SignedSnapshot => ({
  ...snapshot({ generation: 9 }),
  signature: Buffer.alloc(64, 1),
})

describe('a snapshot that is good', () => {
  test('is in force at once, and whoever listens is told', async () => {
    const { open, snapshot, target } = stage()
    await using policy = open()
    const seen: unknown[] = []
    policy.onChange(() => seen.push(policy.current()?.generation))
    expect(policy.current()).toBeUndefined()
    policy.take(snapshot({ generation: 3 }))
    expect(policy.current()).toMatchObject({ generation: 3, target })
    expect(seen).toEqual([3])
    expect(policy.report()).toEqual({
      target,
      instance: 'one',
      state: 'current',
      code: '',
      snapshotId: policy.current()?.id,
      generation: 3n,
    })
  })

  test('tells nobody when it is the same again', async () => {
    const { open, snapshot } = stage()
    await using policy = open()
    policy.take(snapshot())
    let told = 0
    policy.onChange(() => {
      told += 1
    })
    policy.take(snapshot())
    expect(told).toBe(0)
  })

  test('tells nobody who has stopped listening', async () => {
    const { open, snapshot } = stage()
    await using policy = open()
    const stop = policy.onChange(() => expect.unreachable())
    stop()
    policy.take(snapshot())
  })
})

describe('a snapshot that is refused', () => {
  test.each<[string, (stage: Stage) => SignedSnapshot, string, string]>([
    ['incompatible', incompatible, 'incompatible', 'CS_SNAPSHOT_INCOMPATIBLE'],
    ['invalid', invalid, 'invalid', 'CS_SNAPSHOT_INVALID'],
    ['untrusted', untrusted, 'invalid', 'CS_SNAPSHOT_UNTRUSTED'],
    ['older', ({ snapshot }) => snapshot({ generation: 2 }), 'invalid', 'CS_SNAPSHOT_OUTDATED'],
    [
      'for another app',
      ({ snapshot, authority }) =>
        snapshot({ target: makeSpiffeId(authority.trustDomain, '/x'), generation: 9 }),
      'invalid',
      'CS_SNAPSHOT_MISDIRECTED',
    ],
  ])('because it is %s leaves the last good one in force', async (_, make, state, code) => {
    const here = stage()
    await using policy = here.open()
    policy.take(here.snapshot({ generation: 3 }))
    const before = policy.current()
    policy.onChange(() => expect.unreachable())
    policy.take(make(here))
    expect(policy.current()).toBe(before)
    expect(policy.report()).toMatchObject({ state, code, snapshotId: before?.id, generation: 3n })
    expect(here.log.lines.filter(({ level }) => level === 'warn')).toMatchObject([{ code }])
  })

  test('as the first leaves no policy, and so nothing is allowed', async () => {
    const here = stage()
    await using policy = here.open()
    policy.take(untrusted(here))
    expect(policy.current()).toBeUndefined()
    expect(policy.report()).toMatchObject({ snapshotId: '', generation: 0n, state: 'invalid' })
  })

  test('is forgotten as soon as a good one comes', async () => {
    const here = stage()
    await using policy = here.open()
    policy.take(incompatible(here))
    policy.take(here.snapshot({ generation: 10 }))
    expect(policy.report()).toMatchObject({ state: 'current', code: '', generation: 10n })
  })
})

test('no snapshot with the agent leaves the last good one in force, which is stale', async () => {
  const { open, snapshot } = stage()
  await using policy = open()
  policy.take(snapshot({ generation: 3 }))
  policy.take(undefined)
  expect(policy.current()).toMatchObject({ generation: 3 })
  expect(policy.report()).toMatchObject({
    state: 'stale',
    code: 'CS_POLICY_UNAVAILABLE',
    generation: 3n,
  })
})

test('nothing is reported before the agent has said anything', async () => {
  const { open } = stage()
  await using policy = open()
  expect(policy.report()).toBeUndefined()
  expect(policy.standing()).toBeUndefined()
})

test('the same generation with other content is taken', async () => {
  const { open, snapshot } = stage()
  await using policy = open()
  policy.take(snapshot({ generation: 3 }))
  const before = policy.current()?.id
  policy.take(snapshot({ generation: 3, caller: 'billing' }))
  expect(policy.current()?.id).not.toBe(before)
  expect(policy.report()).toMatchObject({ state: 'current' })
})

describe('when trust comes late', () => {
  test('a snapshot that came before the bundle is in force as soon as the bundle is there', async () => {
    const { authority, open, snapshot, target } = stage()
    const old = testAuthority('prod.test')
    const identity = testIdentity(authority.issueX509({ id: target }), [old.bundle])
    await using policy = open({ identity })
    const reported = new Promise<void>((resolve) => {
      policy.onReport(() => {
        if (policy.report()?.state === 'current') resolve()
      })
    })
    policy.take(snapshot({ generation: 4 }))
    expect(policy.report()).toMatchObject({ code: 'CS_SNAPSHOT_UNTRUSTED' })
    identity.setBundles([authority.bundle])
    expect(policy.current()).toMatchObject({ generation: 4 })
    await reported
  })

  test('a snapshot that is still not trusted stays refused', async () => {
    const here = stage()
    await using policy = here.open()
    policy.take(untrusted(here))
    here.identity.setBundles([here.authority.bundle])
    expect(policy.current()).toBeUndefined()
  })

  test('a snapshot that another has replaced does not come back', async () => {
    const { authority, identity, open, snapshot } = stage()
    const late = testAuthority('prod.test', { now: new Date('2026-11-20T12:00:00Z') })
    await using policy = open()
    policy.take(signedSnapshot({ authority: late, generation: 3, caller: 'billing' }))
    policy.take(snapshot({ generation: 3 }))
    const { id } = policy.current() ?? {}
    const { bundle } = authority
    const both = [...bundle.x509Authorities, ...late.bundle.x509Authorities]
    identity.setBundles([{ ...bundle, x509Authorities: both }])
    expect(policy.current()?.id).toBe(id)
  })

  test('nothing is judged after the end', async () => {
    const { authority, open, snapshot, target } = stage()
    const identity = testIdentity(authority.issueX509({ id: target }), [])
    const policy = open({ identity })
    policy.take(snapshot())
    await policy[Symbol.asyncDispose]()
    identity.setBundles([authority.bundle])
    expect(policy.current()).toBeUndefined()
  })
})

describe('what was saved', () => {
  const life = async (here: Stage, folder: TempFolder) => {
    const policy = here.open({ file: await snapshotFile(folder.path) })
    await policy.restore()
    return policy
  }
  const lived = async (here: Stage, folder: TempFolder, wish: Omit<SnapshotWish, 'authority'>) => {
    await using policy = await life(here, folder)
    policy.take(here.snapshot(wish))
  }

  test('is in force after a restart, and reported only once the agent has spoken', async () => {
    await using folder = await tempFolder()
    const here = stage()
    await lived(here, folder, { generation: 3 })
    await using policy = await life(here, folder)
    expect(policy.current()).toMatchObject({ generation: 3 })
    expect(policy.report()).toBeUndefined()
  })

  test('keeps an older one out after a restart', async () => {
    await using folder = await tempFolder()
    const here = stage()
    await lived(here, folder, { generation: 3 })
    await using policy = await life(here, folder)
    policy.take(here.snapshot({ generation: 2 }))
    expect(policy.report()).toMatchObject({ code: 'CS_SNAPSHOT_OUTDATED', generation: 3n })
  })

  test('is not in force when its signer has expired, and still keeps an older one out', async () => {
    await using folder = await tempFolder()
    const here = stage()
    await lived(here, folder, { generation: 3 })
    await here.clock.advance(2 * HOUR_MS)
    await using policy = await life(here, folder)
    expect(policy.current()).toBeUndefined()
    policy.take(here.snapshot({ generation: 2 }))
    expect(policy.current()).toBeUndefined()
    policy.take(here.snapshot({ generation: 3 }))
    expect(policy.current()).toMatchObject({ generation: 3 })
  })

  test('is renewed when the same policy comes under a fresh signature', async () => {
    await using folder = await tempFolder()
    const here = stage()
    await lived(here, folder, { generation: 3 })
    await here.clock.advance(HOUR_MS / 2)
    await lived(here, folder, { generation: 3 })
    await here.clock.advance((HOUR_MS * 3) / 4)
    await using policy = await life(here, folder)
    expect(policy.current()).toMatchObject({ generation: 3 })
  })

  test('is taken when the bundle for it comes', async () => {
    await using folder = await tempFolder()
    const here = stage()
    await lived(here, folder, { generation: 3 })
    const { authority, target } = here
    const identity = testIdentity(authority.issueX509({ id: target }), [])
    await using policy = here.open({ identity, file: await snapshotFile(folder.path) })
    await policy.restore()
    expect(policy.current()).toBeUndefined()
    identity.setBundles([authority.bundle])
    expect(policy.current()).toMatchObject({ generation: 3 })
  })

  test.each<[string, (here: Stage, whole: Buffer) => Buffer | Promise<Buffer>]>([
    ['is empty', () => Buffer.alloc(0)],
    ['is cut short', (_, whole) => whole.subarray(0, whole.length / 2)],
    ['is garbage', () => Buffer.from('garbage '.repeat(100))],
    ['has one bit flipped', (_, whole) => flip(whole)],
  ])('and %s is a warning, and stays as it is until something good comes', async (_, spoil) => {
    await using folder = await tempFolder()
    const path = folder.file('policy.snapshot')
    const here = stage()
    await lived(here, folder, { generation: 3 })
    const spoilt = await spoil(here, await readFile(path))
    await writeFile(path, spoilt)
    await using policy = await life(here, folder)
    expect(policy.current()).toBeUndefined()
    expect(here.log.lines.at(-1)).toMatchObject({
      level: 'warn',
      code: 'CS_SNAPSHOT_UNTRUSTED',
      message: 'saved policy is not used',
    })
    policy.take(untrusted(here))
    policy.take(undefined)
    await policy[Symbol.asyncDispose]()
    expect(await readFile(path)).toEqual(spoilt)
    await lived(here, folder, { generation: 1 })
    await using later = await life(here, folder)
    expect(later.current()).toMatchObject({ generation: 1 })
  })

  test('and is of a trust domain that was set up anew does not count', async () => {
    await using folder = await tempFolder()
    await lived(stage(), folder, { generation: 99 })
    const anew = stage()
    await using policy = await life(anew, folder)
    policy.take(anew.snapshot({ generation: 1 }))
    expect(policy.current()).toMatchObject({ generation: 1 })
  })
})

function flip(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes)
  const middle = copy.indexOf('checkout')
  copy[middle] = (copy[middle] ?? 0) ^ 1
  return copy
}

describe('saving', () => {
  /** A disk that is as fast as the test lets it be. */
  function slowFile() {
    const written: SignedSnapshot[] = []
    const waiting: (() => void)[] = []
    const file: SnapshotFile = {
      read: () => Promise.resolve(undefined),
      async write(signed) {
        await new Promise<void>((resolve) => waiting.push(resolve))
        written.push(signed)
      },
    }
    const oneDone = async () => {
      while (waiting.length === 0) await new Promise((resolve) => setImmediate(resolve))
      waiting.shift()?.()
    }
    return { file, written, oneDone }
  }

  test('is over before the agent is told', async () => {
    const { file, written, oneDone } = slowFile()
    const { open, snapshot } = stage()
    await using policy = open({ file })
    const told = new Promise<number>((resolve) => policy.onReport(() => resolve(written.length)))
    policy.take(snapshot())
    await oneDone()
    expect(await told).toBe(1)
  })

  test('does not hold up the next policy, and passes over what came between', async () => {
    const { file, written, oneDone } = slowFile()
    const { open, snapshot } = stage()
    const policy = open({ file })
    const told: unknown[] = []
    policy.onReport(() => told.push(policy.report()?.generation))
    const [first, between, last] = [1, 2, 3].map((generation) => snapshot({ generation }))
    policy.take(first)
    await new Promise((resolve) => setImmediate(resolve))
    policy.take(between)
    policy.take(last)
    expect(policy.current()).toMatchObject({ generation: 3 })
    const over = policy[Symbol.asyncDispose]()
    await oneDone()
    await oneDone()
    await over
    expect(written).toEqual([first, last])
    expect(told).toEqual([3n])
  })

  test('that fails leaves the policy in force', async () => {
    const file: SnapshotFile = {
      read: () => Promise.resolve(undefined),
      write: () => Promise.reject(new PlatformError('CS_FILE_UNWRITABLE', 'ENOSPC')),
    }
    const { open, snapshot, log } = stage()
    await using policy = open({ file })
    const told = new Promise<void>((resolve) => policy.onReport(resolve))
    policy.take(snapshot())
    await told
    expect(policy.report()).toMatchObject({ state: 'current' })
    expect(log.lines).toContainEqual(
      expect.objectContaining({ level: 'error', code: 'CS_FILE_UNWRITABLE' }),
    )
  })

  test('a file that cannot be read is a warning', async () => {
    const file: SnapshotFile = {
      read: () => Promise.reject(new PlatformError('CS_FILE_UNREADABLE', 'EACCES')),
      write: () => Promise.resolve(),
    }
    const { open, log } = stage()
    await using policy = open({ file })
    await policy.restore()
    expect(policy.current()).toBeUndefined()
    expect(log.lines).toMatchObject([{ level: 'warn', code: 'CS_FILE_UNREADABLE' }])
  })
})

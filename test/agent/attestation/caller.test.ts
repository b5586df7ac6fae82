import { createHash } from 'node:crypto'
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { rename, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { WorkloadAttestor } from '../../../agent/attestation/attestor.js'
import { attestation } from '../../../agent/attestation/caller.js'
import type { PeerKernel } from '../../../agent/attestation/kernel.js'
import { unixAttestor } from '../../../agent/attestation/unix.js'
import { silentLog } from '../../../platform/log.js'
import { fakeClock } from '../../support/fake-clock.js'
import { selectorOf } from '../../support/fake-identities.js'
import { type TempFolder, tempFolder } from '../../support/temp-folder.js'

const signal = new AbortController().signal
const PID = 4711

let dir: TempFolder
beforeEach(async () => {
  dir = await tempFolder()
})
afterEach(() => dir[Symbol.asyncDispose]())

/** A process under a /proc of our own: the kernel's side of it is the handle. */
interface FakeProcess {
  uid: number
  gid: number
  groups: number[]
  startTime: number
  state: string
  exited: boolean
  write(): void
}

function fakeProcess(exe: string): FakeProcess {
  const folder = join(dir.path, 'proc', String(PID))
  const process: FakeProcess = {
    uid: 1000,
    gid: 1001,
    groups: [4, 30],
    startTime: 99,
    state: 'S',
    exited: false,
    write() {
      const { uid, gid, groups, state, startTime } = process
      mkdirSync(folder, { recursive: true })
      const tail = `${state} 1 2 3 0 -1 0 9 8 7 6 5 4 3 2 20 0 1 0 ${startTime} 1 2 3`
      writeFileSync(join(folder, 'stat'), `${PID} (app) ${tail}\n`)
      const ids = (id: number) => [id, id, id, id].join('\t')
      const lines = ['Name:\tapp', `Uid:\t${ids(uid)}`, `Gid:\t${ids(gid)}`]
      writeFileSync(
        join(folder, 'status'),
        [...lines, `Groups:\t${groups.join(' ')} `, ''].join('\n'),
      )
      rmSync(join(folder, 'exe'), { force: true })
      symlinkSync(exe, join(folder, 'exe'))
    },
  }
  process.write()
  return process
}

function kernelOf(process: FakeProcess) {
  const opened = { handles: 0 }
  const handle = () => {
    opened.handles += 1
    let open = true
    return {
      origin: 'pid' as const,
      hasExited: () => process.exited,
      close() {
        if (open) opened.handles -= 1
        open = false
      },
    }
  }
  const kernel: PeerKernel = {
    credentialsOf: () => ({ pid: PID, uid: 1000, gid: 1001, groups: [4, 30] }),
    handleOfPeer: handle,
    handleOfPid: handle,
  }
  return { kernel, opened }
}

function attest(
  process: FakeProcess,
  attestors: readonly WorkloadAttestor[] = [unixAttestor({ clock: fakeClock() })],
) {
  const { kernel, opened } = kernelOf(process)
  const procRoot = join(dir.path, 'proc')
  const attested = attestation({ attestors, log: silentLog, kernel, procRoot })
  return { caller: attested.processWithPid(PID), attested, opened }
}

const refusal = { code: 'CS_CALLER_NOT_ATTESTED' }

describe('a caller', () => {
  test('has the selectors of SPIRE for its user, groups and binary', async () => {
    const exe = dir.file('app')
    await writeFile(exe, 'binary')
    const names = {
      user: (uid: number) => (uid === 1000 ? 'web' : undefined),
      group: (gid: number) => ({ 1001: 'www', 30: 'data' })[gid],
    }
    const { caller } = attest(fakeProcess(exe), [unixAttestor({ clock: fakeClock(), names })])
    const { selectors } = await caller.attest(signal)
    caller.close()
    expect(selectors).toEqual(
      [
        'unix:uid:1000',
        'unix:user:web',
        'unix:gid:1001',
        'unix:group:www',
        'unix:supplementary_gid:4',
        'unix:supplementary_gid:30',
        'unix:supplementary_group:data',
        `unix:path:${exe}`,
        `unix:sha256:${createHash('sha256').update('binary').digest('hex')}`,
      ].map(selectorOf),
    )
  })

  test('has neither path nor hash where they are switched off', async () => {
    const exe = dir.file('app')
    await writeFile(exe, 'binary')
    const quiet = unixAttestor({ clock: fakeClock(), path: false, sha256: false })
    const { caller } = attest(fakeProcess(exe), [quiet])
    const { selectors } = await caller.attest(signal)
    caller.close()
    expect(selectors.filter(({ value }) => /^(path|sha256):/.test(value))).toEqual([])
  })

  test('has neither where the agent may not look, and the rest all the same', async () => {
    const { caller } = attest(fakeProcess(dir.file('absent')))
    const { selectors, facts } = await caller.attest(signal)
    caller.close()
    expect(facts.binary).toBeUndefined()
    expect(selectors).toContainEqual(selectorOf('unix:uid:1000'))
    expect(selectors.filter(({ value }) => /^(path|sha256):/.test(value))).toEqual([])
  })

  test('has no hash of a binary above the limit', async () => {
    await writeFile(dir.file('app'), Buffer.alloc(1001))
    const hashOf = async (maxHashedBytes: number) => {
      const attestors = [unixAttestor({ clock: fakeClock(), maxHashedBytes })]
      const { caller } = attest(fakeProcess(dir.file('app')), attestors)
      const { selectors } = await caller.attest(signal)
      caller.close()
      return selectors.filter(({ value }) => value.startsWith('sha256:')).length
    }
    expect([await hashOf(1000), await hashOf(1001)]).toEqual([0, 1])
  })

  test.each<[string, (process: FakeProcess) => void]>([
    [
      'has exited',
      (process) => {
        process.exited = true
      },
    ],
    [
      'is a zombie',
      (process) => {
        process.state = 'Z'
      },
    ],
    [
      'is dead',
      (process) => {
        process.state = 'X'
      },
    ],
    [
      'started at another time: its pid was taken again',
      (process) => {
        process.startTime += 1
      },
    ],
    [
      'runs as another user',
      (process) => {
        process.uid = 0
      },
    ],
    [
      'runs as another group',
      (process) => {
        process.gid = 0
      },
    ],
    [
      'has gained a group',
      (process) => {
        process.groups = [4, 30, 27]
      },
    ],
    [
      'has other groups',
      (process) => {
        process.groups = [4, 27]
      },
    ],
    [
      'has lost its groups',
      (process) => {
        process.groups = []
      },
    ],
  ])('is refused when it %s', async (_, change) => {
    await writeFile(dir.file('app'), 'binary')
    const process = fakeProcess(dir.file('app'))
    const { caller } = attest(process)
    await expect(caller.attest(signal)).resolves.toBeDefined()
    change(process)
    process.write()
    await expect(caller.attest(signal)).rejects.toMatchObject(refusal)
    caller.close()
  })

  test.each<[string, (process: FakeProcess) => void]>([
    [
      'ends',
      (process) => {
        process.exited = true
      },
    ],
    [
      'changes its user',
      (process) => {
        process.uid = 0
      },
    ],
  ])('is refused when it %s while it is looked at', async (_, change) => {
    await writeFile(dir.file('app'), 'binary')
    const process = fakeProcess(dir.file('app'))
    const meddling: WorkloadAttestor = {
      name: 'meddling',
      async attest() {
        change(process)
        process.write()
        return []
      },
    }
    const { caller } = attest(process, [meddling])
    await expect(caller.attest(signal)).rejects.toMatchObject(refusal)
    caller.close()
  })

  test('is refused when it executes another binary while it is looked at', async () => {
    await writeFile(dir.file('app'), 'binary')
    await writeFile(dir.file('other'), 'other')
    const process = fakeProcess(dir.file('app'))
    const meddling: WorkloadAttestor = {
      name: 'meddling',
      async attest() {
        const exe = join(dir.path, 'proc', String(PID), 'exe')
        rmSync(exe)
        symlinkSync(dir.file('other'), exe)
        return []
      },
    }
    const { caller } = attest(process, [meddling])
    await expect(caller.attest(signal)).rejects.toMatchObject({ code: 'CS_CALLER_CHANGED' })
    caller.close()
  })

  test('is read through the folder that was opened, though another process has the name now', async () => {
    await writeFile(dir.file('app'), 'binary')
    const process = fakeProcess(dir.file('app'))
    const { caller } = attest(process)
    const folder = join(dir.path, 'proc', String(PID))
    await rename(folder, `${folder}-old`)
    process.uid = 0
    process.write()
    expect((await caller.attest(signal)).facts.uid).toBe(1000)
    caller.close()
    await expect(caller.attest(signal)).rejects.toMatchObject(refusal)
  })

  test('is not taken on when it has ended, and no handle is left', async () => {
    await writeFile(dir.file('app'), 'binary')
    const process = fakeProcess(dir.file('app'))
    const { caller, attested, opened } = attest(process)
    expect(opened.handles).toBe(1)
    process.exited = true
    expect(() => attested.processWithPid(PID)).toThrow(expect.objectContaining(refusal))
    expect(opened.handles).toBe(1)
    await rm(join(dir.path, 'proc', String(PID)), { recursive: true })
    process.exited = false
    expect(() => attested.processWithPid(PID)).toThrow(expect.objectContaining(refusal))
    expect(opened.handles).toBe(1)
    caller.close()
    caller.close()
    expect(opened.handles).toBe(0)
  })

  test('is not looked at for somebody who has hung up', async () => {
    await writeFile(dir.file('app'), 'binary')
    const { caller } = attest(fakeProcess(dir.file('app')))
    const reason = new Error('caller has hung up')
    await expect(caller.attest(AbortSignal.abort(reason))).rejects.toBe(reason)
    caller.close()
  })
})

describe('the hash of a binary', () => {
  test('is made again when the file has changed, though its times were set back', async () => {
    const exe = dir.file('app')
    await writeFile(exe, 'one')
    const past = new Date(0)
    await utimes(exe, past, past)
    const attestors = [unixAttestor({ clock: fakeClock(new Date('2040-01-01')) })]
    const hashOf = async () => {
      const { caller } = attest(fakeProcess(exe), attestors)
      const { selectors } = await caller.attest(signal)
      caller.close()
      return selectors.find(({ value }) => value.startsWith('sha256:'))?.value
    }
    const sha256 = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`
    expect(await hashOf()).toBe(sha256('one'))
    await writeFile(exe, 'two')
    await utimes(exe, past, past)
    expect(await hashOf()).toBe(sha256('two'))
  })

  test('is the same for many that ask at once', async () => {
    const exe = dir.file('app')
    await writeFile(exe, Buffer.alloc(3_000_000, 7))
    const { caller } = attest(fakeProcess(exe))
    const all = await Promise.all(Array.from({ length: 20 }, () => caller.attest(signal)))
    caller.close()
    expect(new Set(all.map(({ key }) => key)).size).toBe(1)
    expect(all[0]!.selectors.some(({ value }) => value.startsWith('sha256:'))).toBe(true)
  })
})

describe('attestors', () => {
  const saying = (name: string, ...found: string[]): WorkloadAttestor => ({
    name,
    attest: async () => found.map(selectorOf),
  })
  const failing: WorkloadAttestor = {
    name: 'failing',
    attest: async () => {
      throw new Error('no daemon')
    },
  }

  test('add up, and one that fails costs only its own selectors', async () => {
    await writeFile(dir.file('app'), 'binary')
    const all = [saying('a', 'a:1'), failing, saying('b', 'b:2', 'b:3')]
    const { caller } = attest(fakeProcess(dir.file('app')), all)
    const { selectors } = await caller.attest(signal)
    caller.close()
    expect(selectors).toEqual(['a:1', 'b:2', 'b:3'].map(selectorOf))
  })

  test('that all fail leave the caller unknown', async () => {
    await writeFile(dir.file('app'), 'binary')
    const { caller } = attest(fakeProcess(dir.file('app')), [failing])
    await expect(caller.attest(signal)).rejects.toMatchObject({ code: 'CS_ATTESTORS_FAILED' })
    caller.close()
  })
})

import { spawnSync } from 'node:child_process'
import { chmod, mkdir, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openLocalEndpoints } from '../../../agent/local/endpoints.js'
import { listenAt } from '../../../agent/workload-api/socket.js'
import { systemClock } from '../../../platform/clock.js'
import { silentLog } from '../../../platform/log.js'
import { fakeAttestation } from '../../support/fake-attestation.js'
import { fakeIdentities, selectorOf } from '../../support/fake-identities.js'
import { localClient, received, security } from '../../support/local-client.js'
import { seededRandom } from '../../support/seeded-random.js'
import { type TempFolder, tempFolder } from '../../support/temp-folder.js'

let dir: TempFolder
let open: Server[] = []
beforeEach(async () => {
  dir = await tempFolder()
})
afterEach(async () => {
  await Promise.all(open.map((server) => new Promise((resolve) => server.close(resolve))))
  open = []
  await dir[Symbol.asyncDispose]()
})

async function listen(path: string, options: { mode?: number; folderMode?: number } = {}) {
  const server = createServer((socket) => socket.destroy())
  await listenAt(server, { path, mode: 0o777, folderMode: 0o755, ...options })
  open.push(server)
  return server
}

/** Leaves a socket behind as a killed process does. */
function leaveSocket(path: string): void {
  const script = `require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`
  spawnSync(process.execPath, ['-e', script, path])
}

const modeOf = async (path: string) => (await stat(path)).mode & 0o7777

describe('a socket', () => {
  test('WE-1 is open to everybody in a folder that everybody may enter', async () => {
    const umask = process.umask(0o077)
    try {
      await listen(dir.file('run/public/agent.sock'))
    } finally {
      process.umask(umask)
    }
    expect(await modeOf(dir.file('run/public/agent.sock'))).toBe(0o777)
    expect(await modeOf(dir.file('run/public'))).toBe(0o755)
    expect(await modeOf(dir.file('run'))).toBe(0o755)
    expect(process.umask()).toBe(umask)
  })

  test('may be for its owner alone', async () => {
    await listen(dir.file('private/agent.sock'), { mode: 0o600, folderMode: 0o700 })
    expect(await modeOf(dir.file('private/agent.sock'))).toBe(0o600)
    expect(await modeOf(dir.file('private'))).toBe(0o700)
  })

  test('leaves the permissions of a folder that was there', async () => {
    await mkdir(dir.file('there'))
    await chmod(dir.file('there'), 0o711)
    await listen(dir.file('there/agent.sock'))
    expect(await modeOf(dir.file('there'))).toBe(0o711)
  })

  test('is gone when the server closes', async () => {
    const server = await listen(dir.file('agent.sock'))
    await new Promise((resolve) => server.close(resolve))
    open = []
    expect(await readdir(dir.path)).toEqual([])
  })

  test('takes the place of one that a killed process has left behind', async () => {
    const path = dir.file('agent.sock')
    leaveSocket(path)
    expect(await readdir(dir.path)).toEqual(['agent.sock'])
    await listen(path)
    await new Promise<void>((resolve) =>
      connect(path, resolve)
        .on('close', () => {})
        .resume(),
    )
    expect(await readdir(dir.path)).toEqual(['agent.sock'])
  })

  test('does not take the place of one that somebody answers on', async () => {
    const path = dir.file('agent.sock')
    await listen(path)
    await expect(listen(path)).rejects.toMatchObject({ code: 'CS_SOCKET_TAKEN' })
    await new Promise<void>((resolve) => connect(path, resolve).resume())
  })

  test('is opened by exactly one of many agents that start at the same time over a dead one', async () => {
    const path = dir.file('agent.sock')
    leaveSocket(path)
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => listen(path)))
    const codes = outcomes.map((one) => (one.status === 'rejected' ? one.reason.code : 'open'))
    expect(codes.filter((code) => code === 'open')).toHaveLength(1)
    expect(codes.filter((code) => code === 'CS_SOCKET_TAKEN')).toHaveLength(7)
    await new Promise<void>((resolve) => connect(path, resolve).resume())
    expect(await readdir(dir.path)).toEqual(['agent.sock'])
  })

  const folderOf = (length: number) => 'd'.repeat(length)
  test.each([
    ['a file', async (path: string) => writeFile(path, 'precious'), 'CS_SOCKET_PATH_INVALID'],
    ['a folder', async (path: string) => mkdir(path), 'CS_SOCKET_PATH_INVALID'],
    [
      'a link to nothing',
      async (path: string) => symlink('/nowhere', path),
      'CS_SOCKET_PATH_INVALID',
    ],
    [
      'a folder that everyone may write to',
      async (path: string) => chmod(dirname(path), 0o777),
      'CS_SOCKET_FOLDER_UNSAFE',
    ],
    [
      'a file in the place of the folder',
      async (path: string) => {
        await rm(dirname(path), { recursive: true })
        await writeFile(dirname(path), '')
      },
      'CS_FOLDER_UNUSABLE',
    ],
  ])('is refused where there is %s, which is left as it is', async (_, prepare, code) => {
    const path = dir.file('sub/agent.sock')
    await mkdir(dirname(path))
    await prepare(path)
    await expect(listen(path)).rejects.toMatchObject({ code })
  })

  test('is refused below /proc, where no folder can be made and none says so', async () => {
    await expect(listen('/proc/countersign/agent/agent.sock')).rejects.toMatchObject({
      code: 'CS_FOLDER_UNUSABLE',
    })
  })

  test('is allowed in a folder that everyone may write to, if only owners may remove: as /tmp', async () => {
    await chmod(dir.path, 0o1777)
    await expect(listen(dir.file('agent.sock'))).resolves.toBeDefined()
  })

  test.each([
    ['107 bytes', 107, undefined],
    ['108 bytes', 108, 'CS_SOCKET_PATH_INVALID'],
  ])('may have a path of %s: %#', async (_, bytes, code) => {
    const rest = bytes - Buffer.byteLength(dir.path) - '/'.length
    const path = join(dir.path, folderOf(rest))
    expect(Buffer.byteLength(path)).toBe(bytes)
    const outcome = listen(path)
    if (code) await expect(outcome).rejects.toMatchObject({ code })
    else await expect(outcome).resolves.toBeDefined()
  })

  test.each([['agent.sock'], ['./agent.sock'], [''], ['/run/a\0b']])(
    'is refused at %j, which is no absolute path',
    async (path) => {
      await expect(listen(path)).rejects.toMatchObject({ code: 'CS_SOCKET_PATH_INVALID' })
    },
  )

  test('counts the bytes of its path and not the characters', async () => {
    const path = join(dir.path, 'ü'.repeat(50))
    expect(path.length).toBeLessThan(107)
    await expect(listen(path)).rejects.toMatchObject({ code: 'CS_SOCKET_PATH_INVALID' })
  })
})

describe('several sockets of one agent', () => {
  const common = () => ({
    clock: systemClock,
    random: seededRandom(1),
    log: silentLog,
    attestation: fakeAttestation(['unix:uid:1000']),
  })

  test('WL-7 each add what they vouch for to what the kernel says of a caller', async () => {
    const identities = fakeIdentities({
      entries: [
        { path: '/orders', selectors: ['unix:uid:1000', 'socket:orders'] },
        { path: '/shop', selectors: ['unix:uid:1000', 'socket:shop'] },
      ],
    })
    const [orders, shop] = ['orders', 'shop'].map((name) => ({
      path: dir.file(`${name}.sock`),
      mode: 0o600,
      selectors: [selectorOf(`socket:${name}`)],
    }))
    await using _ = await openLocalEndpoints({ ...common(), identities, sockets: [orders!, shop!] })
    for (const name of ['orders', 'shop']) {
      using client = localClient(dir.file(`${name}.sock`))
      const stream = received(client.workload.fetchX509Svid({}, security()))
      const ids = (await stream.next()).svids.map(({ spiffeId }) => spiffeId)
      expect(ids).toEqual([`spiffe://prod.example/${name}`])
      expect(await modeOf(dir.file(`${name}.sock`))).toBe(0o600)
    }
  })

  test.each([['unix:uid:0'], ['k8s:ns:prod'], ['socket:'], [':orders']])(
    'may not vouch for %s, which is for an attestor to say',
    async (selector) => {
      const sockets = [{ path: dir.file('a.sock'), selectors: [selectorOf(selector)] }] as const
      await expect(
        openLocalEndpoints({ ...common(), identities: fakeIdentities(), sockets }),
      ).rejects.toMatchObject({ code: 'CS_SOCKET_SELECTOR_INVALID' })
      expect(await readdir(dir.path)).toEqual([])
    },
  )

  test('are all closed again when one of them cannot be opened', async () => {
    await listen(dir.file('taken.sock'))
    const sockets = [{ path: dir.file('a.sock') }, { path: dir.file('taken.sock') }] as const
    await expect(
      openLocalEndpoints({ ...common(), identities: fakeIdentities(), sockets }),
    ).rejects.toMatchObject({ code: 'CS_SOCKET_TAKEN' })
    expect(await readdir(dir.path)).toEqual(['taken.sock'])
  })
})

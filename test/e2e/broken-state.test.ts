import { createHash } from 'node:crypto'
import { chmod, mkdir, readdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { formatHostPort, listenOn } from '../../platform/listen.js'
import { countersign, type Finished } from '../support/countersign.js'
import { startSentry } from '../support/product.js'
import { type TempFolder, tempFolder } from '../support/temp-folder.js'

const MINUTE = 60_000

/** Runs a sentry on a data folder that something is wrong with; it must refuse to start. */
function runSentry(data: string, socket: string, ...args: readonly string[]): Promise<Finished> {
  return countersign([
    'sentry',
    'run',
    '--trust-domain',
    'example.test',
    '--data-dir',
    data,
    '--socket',
    socket,
    '--listen',
    '127.0.0.1:0',
    '--admin-listen',
    '127.0.0.1:0',
    '--log-level',
    'silent',
    ...args,
  ])
}

/** A fingerprint of every file of a folder, to show that a refusal overwrote nothing. The database may tidy up its own log. */
async function contentsOf(folder: string): Promise<Record<string, string>> {
  const names = (await readdir(folder))
    .filter((name) => !/-(wal|shm)$|^sentry\.db$/.test(name))
    .sort()
  const entries = names.map(async (name) => [name, await fingerprintOf(join(folder, name))])
  return Object.fromEntries((await Promise.all(entries)) as [string, string][])
}

async function fingerprintOf(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex')
}

describe('a sentry refuses to start, says why, and overwrites nothing', () => {
  let folder: TempFolder
  const data = () => folder.file('sentry')

  beforeAll(async () => {
    folder = await tempFolder()
    const sentry = await startSentry({ folder })
    await sentry[Symbol.asyncDispose]()
  }, MINUTE)
  afterAll(() => folder[Symbol.asyncDispose]())

  const files = async (matching: RegExp) => {
    const found = (await readdir(data())).find((name) => matching.test(name))
    if (!found) throw new Error(`no ${matching} among ${(await readdir(data())).join(', ')}`)
    return join(data(), found)
  }

  test.each([
    [
      'a sealed key with one bit flipped',
      /sealed$/,
      async (path: string) => {
        const bytes = await readFile(path)
        bytes[bytes.length >> 1]! ^= 1
        await writeFile(path, bytes)
      },
      'CS_SEAL_BROKEN',
    ],
    ['a sealed key cut short', /sealed$/, (path: string) => truncate(path, 40), 'CS_SEAL_BROKEN'],
    [
      'another key than the one it was sealed with',
      /seal\.key$/,
      (path: string) => writeFile(path, Buffer.alloc(32, 7)),
      'CS_SEAL_BROKEN',
    ],
    [
      'a key file that holds no key',
      /seal\.key$/,
      (path: string) => writeFile(path, 'short'),
      'CS_SEAL_KEY_INVALID',
    ],
    [
      'a truncated database',
      /\.(db|sqlite)$/,
      (path: string) => truncate(path, 5000),
      'CS_DATASTORE_CORRUPT',
    ],
    [
      'a database that is something else',
      /\.(db|sqlite)$/,
      (path: string) => writeFile(path, 'hello'.repeat(2000)),
      'CS_DATASTORE_CORRUPT',
    ],
  ])(
    '%s',
    async (_, matching, breakIt, code) => {
      const path = await files(matching)
      const good = await readFile(path)
      try {
        await breakIt(path)
        const broken = { ...(await contentsOf(data())), [path]: await fingerprintOf(path) }
        const { code: exit, stderr } = await runSentry(data(), folder.file('x.sock'))
        expect(stderr).toContain(`code:  ${code}`)
        expect(stderr).not.toMatch(/\n\s+at /)
        expect(exit).toBe(1)
        expect({ ...(await contentsOf(data())), [path]: await fingerprintOf(path) }).toEqual(broken)
      } finally {
        await writeFile(path, good)
      }
    },
    MINUTE,
  )

  test(
    'a wrong passphrase',
    async () => {
      const own = folder.file('with-passphrase')
      await mkdir(own)
      const passphrase = (text: string) => {
        const path = folder.file(`passphrase-${text}`)
        return writeFile(path, text).then(() => ['--seal-passphrase-file', path])
      }
      await using sentry = await startSentry({
        folder: inFolder(own),
        args: await passphrase('right'),
      })
      await sentry.program.kill('SIGTERM')
      const { stderr, code } = await runSentry(
        join(own, 'sentry'),
        folder.file('x.sock'),
        ...(await passphrase('wrong')),
      )
      expect(stderr).toContain('code:  CS_SEAL_BROKEN')
      expect(code).toBe(1)
    },
    MINUTE,
  )

  test(
    'another trust domain than the one of the data',
    async () => {
      const { stderr, code } = await runSentry(
        data(),
        folder.file('x.sock'),
        '--trust-domain',
        'other.test',
      )
      expect(stderr).toMatch(/example\.test/)
      expect(stderr).toMatch(/code: {2}CS_/)
      expect(code).toBe(1)
    },
    MINUTE,
  )

  test(
    'a port that is taken',
    async () => {
      const other = createServer()
      const address = await listenOn(other, { host: '127.0.0.1', port: 0 })
      const { stderr, code } = await runSentry(
        data(),
        folder.file('x.sock'),
        '--listen',
        formatHostPort(address),
      )
      expect(stderr).toContain('code:  CS_PORT_TAKEN')
      expect(stderr).toContain(formatHostPort(address))
      expect(code).toBe(1)
      await new Promise((resolve) => other.close(resolve))
    },
    MINUTE,
  )

  test.each([
    ['a folder that cannot be made', '/proc/countersign'],
    ['a folder that is a file', '/dev/null'],
  ])(
    '%s',
    async (_, path) => {
      const { stderr, code } = await runSentry(path, folder.file('x.sock'))
      expect(stderr).toContain('code:  CS_FOLDER_UNUSABLE')
      expect(code).toBe(1)
    },
    MINUTE,
  )

  test.skipIf(process.getuid?.() === 0)(
    'a folder that it may not write',
    async () => {
      const closed = folder.file('closed')
      await mkdir(closed)
      await chmod(closed, 0o500)
      const { stderr } = await runSentry(closed, folder.file('x.sock'))
      expect(stderr).toContain('code:  CS_FOLDER_UNUSABLE')
    },
    MINUTE,
  )

  test(
    'a second sentry on the same folder',
    async () => {
      await using first = await startSentry({ folder })
      const { stderr, code } = await runSentry(data(), folder.file('y.sock'))
      expect(stderr).toContain('code:  CS_FOLDER_IN_USE')
      expect(stderr).toContain(String(first.program.pid))
      expect(code).toBe(1)
    },
    MINUTE,
  )

  test.each([
    [
      'an unknown key',
      'trust_domian: example.test\n',
      'CS_CONFIG_UNKNOWN_KEY',
      'did you mean trust_domain?',
    ],
    [
      'a mistyped value',
      'trust_domain: example.test\nttl: { x509_svid: soon }\n',
      'CS_CONFIG_INVALID',
      'ttl.x509_svid takes a duration',
    ],
    [
      'lifetimes that cannot hold',
      'trust_domain: example.test\nttl: { x509_svid: 30d, issuer: 7d }\n',
      'CS_TTL_TOO_LONG',
      '',
    ],
  ])(
    '%s in its configuration',
    async (_, text, code, message) => {
      const config = folder.file('config.yaml')
      await writeFile(config, text)
      const fresh = folder.file(`fresh-${code}`)
      const { stderr, code: exit } = await countersign([
        'sentry',
        'run',
        '--config',
        config,
        '--data-dir',
        fresh,
        '--socket',
        folder.file('z.sock'),
        '--listen',
        '127.0.0.1:0',
        '--admin-listen',
        '127.0.0.1:0',
      ])
      expect(stderr).toContain(`code:  ${code}`)
      expect(stderr).toContain(message)
      expect(exit).toBe(1)
    },
    MINUTE,
  )

  test(
    'and starts again when nothing is wrong',
    async () => {
      await using sentry = await startSentry({ folder })
      expect((await sentry.ask('entry', 'list')).entries).toEqual([])
    },
    MINUTE,
  )
})

const inFolder = (path: string): TempFolder => ({
  path,
  file: (name) => join(path, name),
  [Symbol.asyncDispose]: () => Promise.resolve(),
})

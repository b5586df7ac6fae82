import { chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ensureKeyFile, openSealer, sealedFile } from '../../platform/sealer.js'
import { tempFolder } from '../support/temp-folder.js'

const key = Uint8Array.from({ length: 32 }, (_, at) => at)
const sealer = await openSealer({ kind: 'key', bytes: key })

describe('a sealer', () => {
  test('gives back what was sealed, whatever it was', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 500 }), fc.string(), (plain, context) => {
        expect([...sealer.open(sealer.seal(plain, context), context)]).toEqual([...plain])
      }),
    )
  })

  test('refuses data in which any one bit is flipped', () => {
    const sealed = sealer.seal(Buffer.from('a CA key'), 'authorities')
    for (let bit = 0; bit < sealed.length * 8; bit += 1) {
      const broken = Uint8Array.from(sealed)
      broken[bit >> 3]! ^= 1 << (bit & 7)
      expect(() => sealer.open(broken, 'authorities')).toThrow(
        expect.objectContaining({ code: 'CS_SEAL_BROKEN' }),
      )
    }
  })

  test.each([
    ['nothing', new Uint8Array()],
    ['another file', Buffer.from('-----BEGIN PRIVATE KEY-----\nabc\n')],
    ['only a head', sealer.seal(Buffer.from('x'), 'c').subarray(0, 20)],
  ])('refuses %s', (_, bytes) => {
    expect(() => sealer.open(bytes, 'c')).toThrow(
      expect.objectContaining({ code: 'CS_SEAL_BROKEN' }),
    )
  })

  test('refuses data that was sealed for another purpose', () => {
    const sealed = sealer.seal(Buffer.from('state of an agent'), 'agent state')
    expect(() => sealer.open(sealed, 'authorities')).toThrow(
      expect.objectContaining({ code: 'CS_SEAL_BROKEN' }),
    )
  })

  test('never seals the same data to the same bytes', () => {
    expect(sealer.seal(key, 'c')).not.toEqual(sealer.seal(key, 'c'))
  })
})

describe('the key of a sealer', () => {
  test('comes from a file made once, for its owner alone', async () => {
    await using dir = await tempFolder()
    await ensureKeyFile(dir.file('key'))
    const first = await readFile(dir.file('key'))
    await ensureKeyFile(dir.file('key'))

    expect(await readFile(dir.file('key'))).toEqual(first)
    expect((await stat(dir.file('key'))).mode & 0o777).toBe(0o600)
    await openSealer({ kind: 'key-file', path: dir.file('key') })
  })

  test('may be raw bytes or base64 in a file', async () => {
    await using dir = await tempFolder()
    await writeFile(dir.file('raw'), key)
    await writeFile(dir.file('text'), `${Buffer.from(key).toString('base64')}\n`)
    const raw = await openSealer({ kind: 'key-file', path: dir.file('raw') })
    const text = await openSealer({ kind: 'key-file', path: dir.file('text') })

    expect(Buffer.from(text.open(raw.seal(Buffer.from('x'), 'c'), 'c')).toString()).toBe('x')
  })

  test('comes from a passphrase, and another passphrase does not open', async () => {
    await using dir = await tempFolder()
    const source = { kind: 'passphrase', saltPath: dir.file('salt') } as const
    const right = await openSealer({ ...source, passphrase: 'correct horse' })
    const again = await openSealer({ ...source, passphrase: 'correct horse' })
    const wrong = await openSealer({ ...source, passphrase: 'battery staple' })
    const sealed = right.seal(Buffer.from('x'), 'c')

    expect(Buffer.from(again.open(sealed, 'c')).toString()).toBe('x')
    expect(() => wrong.open(sealed, 'c')).toThrow(
      expect.objectContaining({ code: 'CS_SEAL_BROKEN' }),
    )
  })

  test.each([
    ['a file that is not there', { kind: 'key-file', path: '/nonexistent/key' }],
    ['a key that is too short', { kind: 'key', bytes: new Uint8Array(31) }],
    ['an empty passphrase', { kind: 'passphrase', passphrase: '', saltPath: '/nonexistent/salt' }],
  ] as const)('is refused when it is %s', async (_, source) => {
    await expect(openSealer(source)).rejects.toMatchObject({ code: 'CS_SEAL_KEY_INVALID' })
  })
})

describe('a sealed file', () => {
  test('is absent, then holds what was last written, and never in clear', async () => {
    await using dir = await tempFolder()
    const file = sealedFile({ path: dir.file('state'), sealer, context: 'state' })

    expect(await file.read()).toBeUndefined()
    await file.write(Buffer.from('first secret'))
    await file.write(Buffer.from('second secret'))
    expect(Buffer.from((await file.read())!).toString()).toBe('second secret')
    expect((await readFile(dir.file('state'))).includes('secret')).toBe(false)
    expect(await readdir(dir.path)).toEqual(['state'])
  })

  test.skipIf(process.getuid?.() === 0)('that cannot be written keeps what it held', async () => {
    await using dir = await tempFolder()
    const file = sealedFile({ path: dir.file('state'), sealer, context: 'state' })
    await file.write(Buffer.from('held'))
    await chmod(dir.path, 0o500)

    await expect(file.write(Buffer.from('lost'))).rejects.toMatchObject({
      code: 'CS_FILE_UNWRITABLE',
    })
    await chmod(dir.path, 0o700)
    expect(Buffer.from((await file.read())!).toString()).toBe('held')
  })
})

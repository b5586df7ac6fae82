import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import {
  atomicWrite,
  ensurePrivateFolder,
  readIfPresent,
  readRequired,
} from '../../platform/files.js'
import { tempFolder } from '../support/temp-folder.js'

describe('a private folder', () => {
  test('is made with all folders above it, for its owner alone', async () => {
    await using dir = await tempFolder()
    await ensurePrivateFolder(dir.file('a/b/c'))
    expect((await stat(dir.file('a/b/c'))).mode & 0o777).toBe(0o700)
    await ensurePrivateFolder(dir.file('a/b/c'))
  })

  test.each([
    ['below a file', '/dev/null/folder'],
    ['in a place where nothing can be made', '/proc/countersign/data'],
  ])('%s is refused by code', async (_, path) => {
    await expect(ensurePrivateFolder(path)).rejects.toMatchObject({ code: 'CS_FOLDER_UNUSABLE' })
  })
})

describe('a file', () => {
  test('is replaced whole, with the mode that was asked for, and leaves no draft', async () => {
    await using dir = await tempFolder()
    await atomicWrite(dir.file('f'), 'one')
    await atomicWrite(dir.file('f'), 'two', 0o644)
    expect(await readFile(dir.file('f'), 'utf8')).toBe('two')
    expect((await stat(dir.file('f'))).mode & 0o777).toBe(0o644)
    expect(await readdir(dir.path)).toEqual(['f'])
  })

  test('that cannot be replaced leaves no draft and says so by code', async () => {
    await using dir = await tempFolder()
    await mkdir(dir.file('f'))
    await expect(atomicWrite(dir.file('f'), 'x')).rejects.toMatchObject({
      code: 'CS_FILE_UNWRITABLE',
    })
    expect(await readdir(dir.path)).toEqual(['f'])
  })

  test('is read up to a limit', async () => {
    await using dir = await tempFolder()
    await writeFile(dir.file('f'), '12345')
    expect(String(await readIfPresent(dir.file('f'), 5))).toBe('12345')
    await expect(readIfPresent(dir.file('f'), 4)).rejects.toMatchObject({
      code: 'CS_FILE_TOO_LARGE',
    })
  })

  test.each(['/proc/self/status', '/dev/zero'])(
    'is read up to it whatever size it claims: %s',
    async (path) => {
      await expect(readIfPresent(path, 10)).rejects.toMatchObject({ code: 'CS_FILE_TOO_LARGE' })
    },
  )

  test('that is a folder is refused by code', async () => {
    await using dir = await tempFolder()
    await expect(readIfPresent(dir.path, 10)).rejects.toMatchObject({ code: 'CS_FILE_UNREADABLE' })
  })

  test('may be absent, or must be there', async () => {
    expect(await readIfPresent('/nonexistent', 10)).toBeUndefined()
    await expect(readRequired('/nonexistent', 10)).rejects.toMatchObject({
      code: 'CS_FILE_UNREADABLE',
    })
  })
})

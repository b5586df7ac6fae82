import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { lockFolder } from '../../platform/folder-lock.js'
import { tempFolder } from '../support/temp-folder.js'

test('one process at a time works in a folder', async () => {
  await using dir = await tempFolder()
  const lock = await lockFolder(dir.path)
  await expect(lockFolder(dir.path)).rejects.toMatchObject({
    code: 'CS_FOLDER_IN_USE',
    message: expect.stringContaining(String(process.pid)),
  })
  await lock[Symbol.asyncDispose]()
  await using _again = await lockFolder(dir.path)
})

test.each([
  ['a process that has ended', '999999999 5@x\n'],
  ['a process whose number went to another', `${process.pid} 1@another-boot\n`],
  ['nobody', ''],
  ['something else', 'hello\n'],
])('a lock that names %s is seen through', async (_, text) => {
  await using dir = await tempFolder()
  await writeFile(dir.file('process.lock'), text)
  await using _lock = await lockFolder(dir.path)
})

test('a lock that cannot be read is left where it is', async () => {
  await using dir = await tempFolder()
  await mkdir(dir.file('process.lock'))
  await expect(lockFolder(dir.path)).rejects.toMatchObject({ code: 'CS_FOLDER_UNUSABLE' })
  expect(await readdir(dir.path)).toEqual(['process.lock'])
})

test('of many that want a folder at once, one gets it', async () => {
  await using dir = await tempFolder()
  const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => lockFolder(dir.path)))
  expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
})

test('what a killed process left half written is removed, and nothing else', async () => {
  await using dir = await tempFolder()
  for (const name of ['state.0123456789ab.tmp', 'state', 'notes.tmp'])
    await writeFile(dir.file(name), '')
  await using _lock = await lockFolder(dir.path)
  expect((await readdir(dir.path)).toSorted()).toEqual(['notes.tmp', 'process.lock', 'state'])
})

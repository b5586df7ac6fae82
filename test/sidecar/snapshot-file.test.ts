import { chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { noSnapshotFile, snapshotFile } from '../../sidecar/snapshot-file.js'
import { testAuthority } from '../support/authority.js'
import { signedSnapshot } from '../support/signed-snapshot.js'
import { tempFolder } from '../support/temp-folder.js'

const snapshot = signedSnapshot({ authority: testAuthority('prod.test') })
const same = (one: unknown) => JSON.stringify(one)

test('what was written is read again, by whoever opens the folder next', async () => {
  await using dir = await tempFolder()
  const file = await snapshotFile(dir.file('state'))
  expect(await file.read()).toBeUndefined()
  await file.write(snapshot)
  const later = await snapshotFile(dir.file('state'))
  expect(same(await later.read())).toBe(same(snapshot))
})

test('the folder and the file are for their owner alone', async () => {
  await using dir = await tempFolder()
  await (await snapshotFile(dir.file('state'))).write(snapshot)
  const modeOf = async (name: string) => (await stat(dir.file(name))).mode & 0o777
  expect(await modeOf('state')).toBe(0o700)
  expect(await modeOf('state/policy.snapshot')).toBe(0o600)
})

test('a later snapshot replaces the one before and leaves nothing else behind', async () => {
  await using dir = await tempFolder()
  const file = await snapshotFile(dir.path)
  await file.write(snapshot)
  await file.write({ ...snapshot, target: 'spiffe://prod.test/later' })
  expect(await file.read()).toMatchObject({ target: 'spiffe://prod.test/later' })
  expect(await readdir(dir.path)).toEqual(['policy.snapshot'])
})

test.each<[string, (whole: Buffer) => Buffer]>([
  ['garbage', () => Buffer.from('not a snapshot at all')],
  ['cut short', (whole) => whole.subarray(0, whole.length - 10)],
])('a file that is %s is refused, and stays as it is', async (_, spoil) => {
  await using dir = await tempFolder()
  const file = await snapshotFile(dir.path)
  await file.write(snapshot)
  const spoilt = spoil(await readFile(dir.file('policy.snapshot')))
  await writeFile(dir.file('policy.snapshot'), spoilt)
  await expect(file.read()).rejects.toMatchObject({ code: 'CS_SNAPSHOT_UNTRUSTED' })
  expect(await readFile(dir.file('policy.snapshot'))).toEqual(spoilt)
})

test('a folder that cannot be made is refused at once', async () => {
  await using dir = await tempFolder()
  await writeFile(dir.file('taken'), '')
  await expect(snapshotFile(dir.file('taken/state'))).rejects.toMatchObject({
    code: 'CS_FOLDER_UNUSABLE',
  })
})

test.skipIf(process.geteuid?.() === 0)('a folder that denies writing is refused', async () => {
  await using dir = await tempFolder()
  await chmod(dir.path, 0o500)
  try {
    await expect(snapshotFile(dir.path)).rejects.toMatchObject({ code: 'CS_FOLDER_UNUSABLE' })
  } finally {
    await chmod(dir.path, 0o700)
  }
})

test('without a folder nothing is kept', async () => {
  await noSnapshotFile.write(snapshot)
  expect(await noSnapshotFile.read()).toBeUndefined()
})

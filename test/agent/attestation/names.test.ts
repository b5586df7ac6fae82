import { rename, rm, writeFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { accountNames, parseNames } from '../../../agent/attestation/names.js'
import { tempFolder } from '../../support/temp-folder.js'

describe('a file of names', () => {
  test('gives the first name of each number and leaves out what is no entry', () => {
    const text = [
      'root:x:0:0:root:/root:/bin/bash',
      'toor:x:0:0::/root:/bin/sh',
      '# comment:x:5:',
      'web:x:1000:1000:a:b:c:d',
      'bad:x:-7:',
      'worse:x::',
      ':x:8:',
      'short',
      '',
      'last:x:4294967294:',
    ].join('\n')
    expect([...parseNames(text)]).toEqual([
      [0, 'root'],
      [1000, 'web'],
      [4_294_967_294, 'last'],
    ])
  })

  test('is read again when it has changed, also when it is replaced, and only then', async () => {
    await using dir = await tempFolder()
    const [passwd, group] = [dir.file('passwd'), dir.file('group')]
    await writeFile(passwd, 'web:x:1000:1000::/:/bin/sh\n')
    await writeFile(group, 'staff:x:50:\n')
    const names = accountNames({ passwd, group })
    expect([names.user(1000), names.group(50), names.user(50)]).toEqual(['web', 'staff', undefined])

    await writeFile(dir.file('new'), 'api:x:1000:1000::/:/bin/sh\n')
    await rename(dir.file('new'), passwd)
    expect(names.user(1000)).toBe('api')
    await rm(passwd)
    expect(names.user(1000)).toBeUndefined()
    expect(names.group(50)).toBe('staff')
  })

  test.each([
    ['is absent', undefined],
    ['is larger than any should be', Buffer.alloc(8 * 1024 * 1024 + 1, 'a:x:1:\n')],
  ])('holds no names when it %s', async (_, content) => {
    await using dir = await tempFolder()
    if (content) await writeFile(dir.file('passwd'), content)
    const names = accountNames({ passwd: dir.file('passwd'), group: dir.path })
    expect([names.user(1), names.group(1)]).toEqual([undefined, undefined])
  })

  test('of this machine knows root', () => {
    expect(accountNames().user(0)).toBe('root')
  })
})

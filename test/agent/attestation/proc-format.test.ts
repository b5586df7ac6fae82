import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseStat, parseStatus } from '../../../agent/attestation/proc-format.js'

const rest = (state: string, start: string) =>
  `${state} 1 2 3 0 -1 4194304 9 8 7 6 5 4 3 2 20 0 1 0 ${start} 12345 678 ${'9 '.repeat(28)}0\n`

describe('/proc/<pid>/stat', () => {
  test.each([
    ['an ordinary name', 'node'],
    ['a space', 'tmux: server'],
    ['a closing parenthesis and what looks like fields', 'a) Z 1 2 3'],
    ['nothing but parentheses', ')) (('],
    ['a line end', 'a\n) S'],
    ['nothing', ''],
  ])('is read whatever the program is called: %s', (_, name) => {
    expect(parseStat(`42 (${name}) ${rest('S', '99')}`)).toEqual({ state: 'S', startTime: 99n })
  })

  test('is read for every name that the kernel may show', () => {
    const name = fc.string({ maxLength: 15, unit: 'binary' })
    fc.assert(
      fc.property(name, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (comm, start) => {
        const stat = `42 (${comm}) ${rest('R', String(start))}`
        expect(parseStat(stat)).toEqual({ state: 'R', startTime: start })
      }),
    )
  })

  test.each([
    ['empty', ''],
    ['without a name', '42 S 1 2 3'],
    ['cut off', '42 (a) S 1 2 3'],
    ['with a start time that is no number', `42 (a) ${rest('S', '-1')}`],
    ['with a state that is none', `42 (a) ${rest('??', '1')}`],
  ])('is refused when it is %s', (_, text) => {
    expect(() => parseStat(text)).toThrow(
      expect.objectContaining({ code: 'CS_CALLER_NOT_ATTESTED' }),
    )
  })

  test('of this very process is read', () => {
    expect(parseStat(readFileSync('/proc/self/stat', 'utf8')).startTime).toBeGreaterThan(0n)
  })
})

const status = (lines: readonly string[]) => ['Name:\tapp', 'Umask:\t0022', ...lines, ''].join('\n')
const ids = ['Uid:\t1\t2\t3\t4', 'Gid:\t5\t6\t7\t8', 'FDSize:\t64']

describe('/proc/<pid>/status', () => {
  test('gives the effective user and group, and the groups in order', () => {
    expect(parseStatus(status([...ids, 'Groups:\t30 4 17 ']))).toEqual({
      uid: 2,
      gid: 6,
      groups: [4, 17, 30],
    })
  })

  test('may list no groups, or all that there can be', () => {
    expect(parseStatus(status([...ids, 'Groups:\t ']))).toMatchObject({ groups: [] })
    const many = Array.from({ length: 65_536 }, (_, at) => at)
    expect(parseStatus(status([...ids, `Groups:\t${many.join(' ')} `])).groups).toEqual(many)
  })

  test('is not deceived by a program called like a field', () => {
    const name = 'Name:\tUid:\\t0\\t0\\t0\\t0'
    expect(parseStatus([name, ...ids, 'Groups:\t', ''].join('\n'))).toMatchObject({ uid: 2 })
  })

  test.each([
    ['empty', ''],
    ['without a user', status(['Gid:\t5\t6\t7\t8', 'Groups:\t'])],
    ['without groups', status(ids)],
    ['with too few ids', status(['Uid:\t1\t2', 'Gid:\t5\t6\t7\t8', 'Groups:\t'])],
    [
      'with an id that is no number',
      status(['Uid:\t1\t-2\t3\t4', 'Gid:\t5\t6\t7\t8', 'Groups:\t']),
    ],
    ['with a group that is no number', status([...ids, 'Groups:\t4 x'])],
  ])('is refused when it is %s', (_, text) => {
    expect(() => parseStatus(text)).toThrow(
      expect.objectContaining({ code: 'CS_CALLER_NOT_ATTESTED' }),
    )
  })

  test('of this very process is read', () => {
    expect(parseStatus(readFileSync('/proc/self/status', 'utf8'))).toMatchObject({
      uid: process.geteuid?.(),
      gid: process.getegid?.(),
    })
  })
})

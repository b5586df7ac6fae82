import { describe, expect, test, vi } from 'vitest'
import { canonicalise, normaliseHost } from '../../policies/index.js'
import { vector } from './mesh.js'
import { fc, test as property } from './property.js'

interface Vector {
  readonly id?: string
  readonly method: string
  readonly target: string
  readonly hosts?: readonly string[]
  readonly malformed?: string
  readonly path?: string
  readonly query?: string
}

const vectors = JSON.parse(vector('canonical.json')) as readonly Vector[]

const spelt = ({ method, target, hosts }: Vector) =>
  canonicalise({ method, target, ...(hosts === undefined ? {} : { hosts }) })

describe('profile strict', () => {
  test.each(
    vectors
      .filter(({ malformed }) => malformed !== undefined)
      .map((vector) => [named(vector), vector] as const),
  )('refuses %s', (_, vector) => {
    expect(spelt(vector)).toEqual({ malformed: vector.malformed })
  })

  test.each(
    vectors
      .filter(({ malformed }) => malformed === undefined)
      .map((vector) => [named(vector), vector] as const),
  )('takes %s', (_, vector) => {
    expect(spelt(vector)).toMatchObject({ path: vector.path, query: vector.query })
  })

  test('judges every byte of a target', () => {
    for (let code = 0; code < 512; code++) {
      const found = canonicalise({ method: 'GET', target: `/a${String.fromCharCode(code)}b` })
      const refused = 'malformed' in found ? found.malformed : 'ok'
      expect([code, refused]).toEqual([code, expectedOfByte(code)])
    }
  })

  test('judges every escaped byte of a path', () => {
    for (let code = 0; code < 256; code++) {
      const escape = `%${code.toString(16).padStart(2, '0')}`
      const found = canonicalise({ method: 'GET', target: `/a${escape}b` })
      expect([escape, 'malformed' in found ? found.malformed : found.path]).toEqual([
        escape,
        expectedOfEscape(code),
      ])
    }
  })

  test('judges every character of a method', () => {
    for (let code = 0; code < 256; code++) {
      const found = canonicalise({ method: `A${String.fromCharCode(code)}`, target: '/' })
      const isToken = /^[!#$%&'*+\-.^_`|~0-9A-Z]$/.test(String.fromCharCode(code))
      expect([code, 'malformed' in found]).toEqual([code, !isToken])
    }
  })
})

function expectedOfByte(code: number): string {
  if (code < 0x21 || code > 0x7e) return 'bad_byte'
  const refused: Record<string, string> = {
    '#': 'fragment',
    '\\': 'backslash',
    '%': 'bad_escape',
    ';': 'path_parameter',
  }
  return refused[String.fromCharCode(code)] ?? 'ok'
}

function expectedOfEscape(code: number): string {
  if (code < 0x20 || code === 0x7f) return 'encoded_control'
  const character = String.fromCharCode(code)
  if (/[/\\]/.test(character)) return 'encoded_slash'
  if (/[?#]/.test(character)) return 'encoded_delimiter'
  if (character === ';') return 'path_parameter'
  if (/[\w.~-]/.test(character)) return `/a${character}b`
  return `/a%${code.toString(16).toUpperCase().padStart(2, '0')}b`
}

const named = ({ id, method, target, hosts }: Vector) =>
  `${id === undefined ? '' : `${id}: `}${method} ${JSON.stringify(target)}${hosts ? ` for ${hosts.join()}` : ''}`

describe('hosts', () => {
  test.each([
    ['BY-H01', 'Secret.com', 'secret.com'],
    ['BY-H01', 'secret.com.', 'secret.com'],
    ['BY-H01', 'x:80', 'x'],
    ['a trailing dot before a port', 'Secret.com.:8080', 'secret.com'],
    ['one of two trailing dots', 'a..', 'a.'],
    ['an IPv6 address', '[2001:DB8::1]:443', '[2001:db8::1]'],
    ['an IPv6 address without port', '[::1]', '[::1]'],
    ['no digits after the colon', 'x:', 'x:'],
    ['nothing', '', ''],
  ])('%s: %s becomes %s', (_, host, expected) => {
    expect(normaliseHost(host)).toBe(expected)
    expect(canonicalise({ method: 'GET', target: '/', hosts: [host] })).toMatchObject({
      host: expected,
    })
  })

  test.each([
    ['two Host headers', { hosts: ['a', 'a'] }],
    ['two different Host headers', { hosts: ['a', 'b'] }],
    [':authority and another host', { authority: 'a', hosts: ['b'] }],
    [':authority and another port', { authority: 'a:1', hosts: ['a:2'] }],
    [':authority and two hosts', { authority: 'a', hosts: ['a', 'a'] }],
  ])('refuses %s', (_, names) => {
    expect(canonicalise({ method: 'GET', target: '/', ...names })).toEqual({
      malformed: 'host_conflict',
    })
  })

  test.each([
    ['none', {}, ''],
    [':authority alone', { authority: 'A.test:8080' }, 'a.test'],
    ['both in another spelling', { authority: 'a.test:80', hosts: ['A.test.:80'] }, 'a.test'],
  ])('takes %s', (_, names, host) => {
    expect(canonicalise({ method: 'GET', target: '/', ...names })).toMatchObject({ host })
  })
})

describe('any target', () => {
  const pieces =
    '/ // . .. %2e %2E %25 %2 % 41 %34 %61 A a ~ %20 ; %3b # \\ %5c %2f ? %c3%a9 é %00 {*} * ='.split(
      ' ',
    )
  const piece = fc.constantFrom(...pieces, ' ')
  const target = fc.array(piece, { maxLength: 12 }).map((pieces) => `/${pieces.join('')}`)

  property('that is taken is canonical from then on', [target], (text) => {
    const once = canonicalise({ method: 'GET', target: text })
    if ('malformed' in once) return
    const twice = canonicalise({ method: 'GET', target: once.path + once.query })
    expect(twice).toEqual(once)
  })

  property('that is taken has no second reading', [target], (text) => {
    const found = canonicalise({ method: 'GET', target: text })
    if ('malformed' in found) return
    expect(found.path).not.toMatch(/\/\/|[\\;#?]|[^\x21-\x7e]/)
    expect(found.path).not.toMatch(/%(?![0-9A-F]{2})|%(0|1|7F|2F|5C|3F|23|3B|25[0-9A-Fa-f]{2})/)
    expect(decodeURIComponentOrSelf(found.path).split('/')).not.toContain('..')
    expect(decodeURIComponentOrSelf(found.path).split('/')).not.toContain('.')
  })

  property('gets the same answer from the short way and the long way', [target], (text) => {
    const found = canonicalise({ method: 'GET', target: text })
    if ('malformed' in found || found.query !== '') return
    // An encoded tilde at the end sends any path the long way.
    const long = canonicalise({ method: 'GET', target: `${text}%7E` })
    expect('malformed' in long ? long : long.path).toBe(`${found.path}~`)
  })
})

function decodeURIComponentOrSelf(path: string): string {
  try {
    return decodeURIComponent(path)
  } catch {
    return path
  }
}

describe('BY-D01', () => {
  test.each([
    ['slashes', '/'],
    ['dots', '.a'],
    ['escapes', '%41'],
    ['percent signs', '%25'],
    ['encoded letters with slashes', '%61/'],
    ['plain letters', 'a'],
  ])('reads a long run of %s in steps that grow with its length alone', (_, unit) => {
    const short = stepsFor(`/${unit.repeat(1000)}`)
    const long = stepsFor(`/${unit.repeat(4000)}`)
    expect(long).toBeLessThanOrEqual(short * 4 + 100)
  })
})

/** Characters looked at. */
function stepsFor(target: string): number {
  const look = vi.spyOn(String.prototype, 'charCodeAt')
  try {
    canonicalise({ method: 'GET', target })
    return look.mock.calls.length
  } finally {
    look.mockRestore()
  }
}

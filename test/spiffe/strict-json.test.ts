import fc from 'fast-check'
import { expect, test } from 'vitest'
import { readJson } from '../../spiffe/strict-json.js'
import { codeOf } from './code-of.js'

const options = { code: 'CS_BUNDLE_INVALID', maxBytes: 100_000, integers: 'exact' } as const
const read = (text: string) => readJson(Buffer.from(text), options)

test.each([
  ['TB-32 a member twice', '{"a":1,"a":2}'],
  ['TB-32 a member twice, once by escape', '{"a":1,"\\u0061":2}'],
  ['TB-32 a member twice at depth', '[{"b":{"a":1,"a":1}}]'],
  ['nothing', ''],
  ['blanks only', '  '],
  ['two values', '1 2'],
  ['a comma at the end', '[1,]'],
  ['a comma at the end of an object', '{"a":1,}'],
  ['a comma at the start', '[,1]'],
  ['an object that is not closed', '{"a":1'],
  ['an array that is not closed', '[1'],
  ['an array closed as an object', '[1}'],
  ['a member without a value', '{"a"}'],
  ['a member without quotes', '{a:1}'],
  ['quotes of the other kind', "{'a':1}"],
  ['text that is not closed', '"a'],
  ['text with a line end', '"a\n"'],
  ['text with a NUL', '"a\0"'],
  ['an unknown escape', '"\\x41"'],
  ['half an escape', '"\\u00"'],
  ['a number with a leading zero', '01'],
  ['a number with a plus', '+1'],
  ['a number that ends in a point', '1.'],
  ['a number that begins with a point', '.5'],
  ['a number without digits', '-'],
  ['a hexadecimal number', '0x10'],
  ['a word that is no value', 'nul'],
  ['a longer word', 'nullx'],
  ['NaN', 'NaN'],
  ['Infinity', 'Infinity'],
  ['a comment', '/* */ 1'],
  ['a blank that JSON does not know', '\u00a01'],
  ['a byte order mark', '\ufeff{}'],
  ['values nested without end', '['.repeat(60_000)],
])('refuses %s', (_, text) => {
  expect(codeOf(() => read(text))).toBe('CS_BUNDLE_INVALID')
})

test('refuses bytes that are not UTF-8', () => {
  for (const bytes of ['22ff22', '22c0af22', '22eda08022']) {
    expect(codeOf(() => readJson(Buffer.from(bytes, 'hex'), options))).toBe('CS_BUNDLE_INVALID')
  }
})

test('reads no more bytes than its limit', () => {
  const text = Buffer.from(`"${'a'.repeat(10)}"`)
  expect(codeOf(() => readJson(text, { ...options, maxBytes: 12 }))).toBe('accepted')
  expect(codeOf(() => readJson(text, { ...options, maxBytes: 11 }))).toBe('CS_BUNDLE_INVALID')
})

test('TB-12 TRAP-2 changes no integer', () => {
  expect(read('9007199254740991')).toBe(9007199254740991)
  expect(read('9007199254740992')).toBe(9007199254740992n)
  expect(read('9007199254740993')).toBe(9007199254740993n)
  expect(read('18446744073709551615')).toBe(18446744073709551615n)
  expect(read('-9007199254740993')).toBe(-9007199254740993n)
  expect(read('1e20')).toBe(1e20)
  expect(readJson(Buffer.from('9007199254740993'), { ...options, integers: 'number' })).toBe(
    9007199254740992,
  )
})

test('an integer longer than anything counts to is not computed, for that takes seconds', () => {
  expect(read(`1${'0'.repeat(63)}`)).toBe(10n ** 63n)
  expect(read(`1${'0'.repeat(64)}`)).toBe(1e64)
  expect(read('9'.repeat(90_000))).toBe(Number.POSITIVE_INFINITY)
})

test('a member named __proto__ is a member like any other', () => {
  const value = read('{"__proto__":{"admin":true}}') as Record<string, unknown>
  expect(Object.hasOwn(value, '__proto__')).toBe(true)
  expect(value['admin']).toBeUndefined()
})

test('reads what JSON.stringify writes', () => {
  fc.assert(
    fc.property(
      fc.jsonValue({ maxDepth: 6, noUnicodeString: false }),
      fc.nat({ max: 3 }),
      (value, indent) => {
        const text = JSON.stringify(value, undefined, indent)
        expect(readJson(Buffer.from(text), { ...options, integers: 'number' })).toEqual(
          JSON.parse(text),
        )
      },
    ),
  )
})

test('accepts nothing that JSON.parse refuses, and reads the rest alike', () => {
  const texts = fc.oneof(
    fc.string({ unit: fc.constantFrom(...'{}[]",:\\u0 1e-.tfn\n'.split('')), maxLength: 12 }),
    fc
      .tuple(fc.json(), fc.nat(), fc.constantFrom(...'{}[]",:\\0'.split('')))
      .map(([text, at, character]) => {
        const place = at % (text.length + 1)
        return text.slice(0, place) + character + text.slice(place)
      }),
  )
  fc.assert(
    fc.property(texts, (text) => {
      const bytes = Buffer.from(text)
      const code = codeOf(() => readJson(bytes, { ...options, integers: 'number' }))
      if (code === 'accepted') {
        expect(readJson(bytes, { ...options, integers: 'number' })).toEqual(
          JSON.parse(bytes.toString()),
        )
      } else {
        expect(code).toBe('CS_BUNDLE_INVALID')
      }
    }),
    { numRuns: 3000 },
  )
})

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { formatXfcc, parseXfcc } from '../../sidecar/xfcc.js'

test('writes the elements that Envoy reads, and quotes only what needs it', () => {
  expect(
    formatXfcc([
      [
        ['By', 'spiffe://prod.test/a'],
        ['Hash', 'ab01'],
        ['URI', 'spiffe://prod.test/b'],
      ],
    ]),
  ).toBe('By=spiffe://prod.test/a;Hash=ab01;URI=spiffe://prod.test/b')
  expect(formatXfcc([[['Subject', 'CN=a,O="b"']]])).toBe('Subject="CN=a,O=\\"b\\""')
})

test('reads several elements, and quotes within them', () => {
  expect(parseXfcc('By=a;Subject="CN=b,O=\\"c\\";x",By=d;URI=e')).toEqual([
    [
      ['By', 'a'],
      ['Subject', 'CN=b,O="c";x'],
    ],
    [
      ['By', 'd'],
      ['URI', 'e'],
    ],
  ])
})

describe('refuses', () => {
  test.each([
    ['nothing', 'By'],
    ['a quote that does not end', 'By="a'],
    ['a quote that ends in a backslash', 'By="a\\"'],
    ['a value that goes on after its quote', 'By="a"b'],
    ['a quote in the middle of a value', 'By=a"b'],
    ['an equals sign that is not quoted', 'By=a=b'],
    ['a pair without a key', '=a'],
    ['an end after a separator', 'By=a;'],
    ['an element that is missing', 'By=a,,By=b'],
  ])('%s', (_, text) => {
    expect(() => parseXfcc(text)).toThrow(expect.objectContaining({ code: 'CS_XFCC_MALFORMED' }))
  })
})

test('what is written is read as it was, whatever it holds', () => {
  const pair = fc.tuple(fc.constantFrom('By', 'Hash', 'URI', 'Subject', 'DNS'), fc.string())
  const element = fc.array(pair, { minLength: 1, maxLength: 4 })
  fc.assert(
    fc.property(fc.array(element, { minLength: 1, maxLength: 4 }), (elements) => {
      expect(parseXfcc(formatXfcc(elements))).toEqual(elements)
    }),
  )
})

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readRequestHead } from '../../../sidecar/http1/request-head.js'
import { defaultLimits } from '../../../sidecar/limits.js'

const limits = defaultLimits.request
const read = (text: string) => readRequestHead(text, limits)
const head = (fields = '') => `GET / HTTP/1.1\r\nHost: h\r\n${fields}`

test('reads what a request says', () => {
  const text =
    'POST /a?b HTTP/1.1\r\nHost: shop.test:80\r\nContent-Length: 3\r\nX-A:  1 \r\nx-a:2\r\n'
  expect(read(text)).toMatchObject({
    method: 'POST',
    target: '/a?b',
    minor: 1,
    keepAlive: true,
    hosts: ['shop.test:80'],
    headers: ['x-a', '1', 'x-a', '2'],
    body: 3,
    upgrade: false,
    expectsContinue: false,
  })
})

describe('the connection is kept', () => {
  test.each([
    ['by default', head(), true],
    ['with keep-alive', head('Connection: keep-alive\r\n'), true],
    ['not with close', head('Connection: close\r\n'), false],
    ['not with close among others', head('Connection: x, CLOSE\r\n'), false],
    ['not with close on a second line', head('Connection: x\r\nConnection: close\r\n'), false],
    ['not in HTTP/1.0', 'GET / HTTP/1.0\r\n', false],
    [
      'not in HTTP/1.0, whatever it asks for',
      'GET / HTTP/1.0\r\nConnection: keep-alive\r\n',
      false,
    ],
  ])('%s', (_, text, keepAlive) => {
    expect(read(text)).toMatchObject({ keepAlive })
  })
})

test.each([...Array(256).keys()])('byte %i in a header name: only a token is taken', (code) => {
  const character = String.fromCharCode(code)
  const isToken = /[A-Za-z0-9!#$%&'*+.^_`|~-]/.test(character)
  const got = read(head(`a${character}b: c\r\n`))
  if (character === ':') expect(got).toMatchObject({ headers: ['a', 'b: c'] })
  else if (isToken) expect(got).toMatchObject({ headers: [`a${character.toLowerCase()}b`, 'c'] })
  else expect(got).toBe('bad_header')
})

test.each([...Array(256).keys()])(
  'byte %i in a header value: no control character is taken',
  (code) => {
    const character = String.fromCharCode(code)
    const got = read(head(`a: b${character}c\r\n`))
    if (code === 9 || (code >= 32 && code !== 127)) {
      expect(got).toMatchObject({ headers: ['a', `b${character}c`] })
    } else expect(got).toBe('bad_header')
  },
)

test('what is taken is written so that it is read as the same again', () => {
  const name = fc.stringMatching(/^x-[a-z0-9]{1,8}$/)
  const value = fc.stringMatching(/^[!-~]([ -~]{0,20}[!-~])?$/)
  fc.assert(
    fc.property(fc.array(fc.tuple(name, value), { maxLength: 10 }), (fields) => {
      const text = fields.map(([name, value]) => `${name}:\t${value} \r\n`).join('')
      expect(read(head(text))).toMatchObject({ headers: fields.flat() })
    }),
  )
})

test('whatever comes is read or refused, and nothing of two lines becomes one', () => {
  const piece = fc.constantFrom(
    'GET',
    ' ',
    '/',
    'HTTP/1.1',
    '\r\n',
    '\r',
    '\n',
    ':',
    'Host',
    'h',
    '\t',
    'a',
    '\0',
  )
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
      const got = read(`${pieces.join('')}\r\n`)
      if (typeof got === 'string') return
      const texts = [got.method, got.target, ...got.hosts, ...got.headers]
      expect(texts.some((text) => /[\r\n\0]/.test(text))).toBe(false)
    }),
    { numRuns: 500 },
  )
})

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ChunkedBody } from '../../../sidecar/http1/chunked-body.js'

const limits = { bodyBytes: undefined, trailerBytes: 1000, headers: 10 }

/** Reads a body that arrives in the given pieces. */
function read(pieces: readonly Buffer[], changes: Partial<typeof limits> = {}) {
  const body = new ChunkedBody({ ...limits, ...changes })
  const content: Buffer[] = []
  let trailers: readonly string[] | undefined
  let rest = ''
  for (const piece of pieces) {
    const next = body.read(piece, 0, {
      content: (bytes) => void content.push(Buffer.from(bytes)),
      end: (got) => {
        trailers = got
      },
    })
    if (typeof next === 'string') return { fault: next }
    rest += piece.toString('latin1', next)
  }
  return { content: Buffer.concat(content).toString('latin1'), trailers, done: body.done, rest }
}

const whole = (text: string) => [Buffer.from(text, 'latin1')]
const bytewise = (text: string) =>
  Array.from(Buffer.from(text, 'latin1'), (byte) => Buffer.of(byte))

test.each([
  ['nothing', '0\r\n\r\n', '', []],
  ['one chunk', '3\r\nabc\r\n0\r\n\r\n', 'abc', []],
  ['sizes in capitals and with leading zeros', '000A\r\n0123456789\r\n0\r\n\r\n', '0123456789', []],
  ['line ends in the content', '4\r\n\r\n\r\n\r\n0\r\n\r\n', '\r\n\r\n', []],
  ['trailers', '0\r\nA: b\r\nc:d \r\n\r\n', '', ['a', 'b', 'c', 'd']],
])('reads %s, however it is cut', (_, text, content, trailers) => {
  const expected = { content, trailers, done: true, rest: 'next' }
  expect(read(whole(`${text}next`))).toEqual(expected)
  expect(read(bytewise(`${text}next`))).toEqual(expected)
})

describe('refuses', () => {
  test.each([
    ['no size', '\r\n', 'bad_chunk'],
    ['a size that is none', 'g\r\n', 'bad_chunk'],
    ['a size of nine digits', '000000000\r\n', 'bad_chunk'],
    ['an extension', '1;a\r\n', 'bad_chunk'],
    ['a blank before the line end', '1 \r\n', 'bad_chunk'],
    ['a bare LF after the size', '1\n', 'bad_chunk'],
    ['a bare CR after the size', '1\rx', 'bad_chunk'],
    ['content longer than its size', '1\r\nab\r\n', 'bad_chunk'],
    ['a bare LF after the content', '1\r\na\n', 'bad_chunk'],
    ['a folded trailer', '0\r\na: b\r\n c\r\n\r\n', 'folded_header'],
    ['a bare LF in the trailers', '0\r\na: b\n', 'bare_line_end'],
    ['a bare LF for the end', '0\r\n\n', 'bare_line_end'],
    ['trailers over the limit', `0\r\na: ${'b'.repeat(1000)}`, 'head_too_large'],
    ['too many trailers', `0\r\n${'a: b\r\n'.repeat(11)}\r\n`, 'too_many_headers'],
  ])('%s, however it is cut', (_, text, fault) => {
    expect(read(whole(text))).toEqual({ fault })
    expect(read(bytewise(text))).toEqual({ fault })
  })

  test('content over the limit at the size that announces it', () => {
    expect(read(whole('3\r\nabc\r\n2\r\n'), { bodyBytes: undefined })).toMatchObject({
      done: false,
    })
    const body = { ...limits, bodyBytes: 4 } as never
    expect(read(whole('3\r\nabc\r\n2\r\n'), body)).toEqual({ fault: 'body_too_large' })
    expect(read(whole('3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n'), body)).toMatchObject({ content: 'abcd' })
  })
})

test('gives back any content, cut into any chunks and any pieces', () => {
  const chunks = fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { maxLength: 8 })
  const cuts = fc.array(fc.nat(400), { maxLength: 12 })
  fc.assert(
    fc.property(chunks, cuts, (chunks, cuts) => {
      const coded = Buffer.concat([
        ...chunks.flatMap((chunk) => [
          Buffer.from(`${chunk.length.toString(16)}\r\n`),
          chunk,
          Buffer.from('\r\n'),
        ]),
        Buffer.from('0\r\n\r\n'),
      ])
      const places = [0, ...cuts.filter((cut) => cut < coded.length), coded.length].sort(
        (a, b) => a - b,
      )
      const pieces = places.slice(1).map((place, at) => coded.subarray(places[at], place))
      const expected = Buffer.concat(chunks).toString('latin1')
      expect(read(pieces)).toMatchObject({ content: expected, done: true, trailers: [], rest: '' })
    }),
  )
})

test('never throws and never reads past the end, whatever comes', () => {
  const alphabet = fc.constantFrom('0', '1', 'a', '\r', '\n', ';', ' ', ':', 'x')
  fc.assert(
    fc.property(fc.array(alphabet, { maxLength: 60 }), (characters) => {
      const text = characters.join('')
      // What a reader does with the whole, it does with the pieces.
      expect(read(bytewise(text))).toEqual(read(whole(text)))
    }),
  )
})

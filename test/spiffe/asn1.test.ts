import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  assertDer,
  bitString,
  boolean,
  bytesOf,
  children,
  contentOf,
  contextTag,
  integer,
  namedBits,
  octetString,
  oid,
  printableString,
  readBitString,
  readBoolean,
  readElement,
  readInteger,
  readOctetString,
  readOid,
  readSmallInteger,
  readTime,
  readUnsigned,
  readVisibleText,
  sequence,
  setOf,
  tags,
  time,
  tlv,
} from '../../spiffe/asn1/index.js'
import { codeOf } from './code-of.js'

const hex = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'))
const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

/** Walks everything, so that a defect at any depth shows. */
const walk = (bytes: Uint8Array) => assertDer(readElement(bytes))

test.each([
  ['nothing', ''],
  ['a tag alone', '30'],
  ['an end-of-contents tag', '0000'],
  ['an indefinite length', '3080 0201 00 0000'],
  ['a long length that would be short', '30 81 03 020100'],
  ['a long length with a leading zero', `30 82 0080 ${'0500'.repeat(64)}`],
  ['a length of five octets', '30 85 0000000003 020100'],
  ['a length of more octets than there are', '30 84 01'],
  ['a length beyond the end', '30 04 020100'],
  ['a byte after the end', '30 03 020100 00'],
  ['a child that is longer than its parent', '30 03 020200'],
  ['a child that is cut short', '30 04 020100 02'],
  ['a tag number of several octets', '1f 81 01 00'],
  ['a child with a tag number of several octets', '30 04 bf810100'],
])('refuses %s', (_, bytes) => {
  expect(codeOf(() => walk(hex(bytes)))).toBe('CS_DER_MALFORMED')
})

test('refuses elements that nest deeper than certificates do', () => {
  const nested = (depth: number): Uint8Array =>
    depth === 0 ? integer(1) : sequence(nested(depth - 1))
  expect(codeOf(() => walk(nested(32)))).toBe('accepted')
  expect(codeOf(() => walk(nested(33)))).toBe('CS_DER_MALFORMED')
  expect(codeOf(() => walk(nested(5000)))).toBe('CS_DER_MALFORMED')
})

test.each([
  ['an empty integer', '0200', readInteger],
  ['an integer with a leading zero too many', '02020001', readInteger],
  ['an integer with a leading ff too many', '0202ff80', readInteger],
  ['a negative integer where none may be', '0201ff', readUnsigned],
  ['an integer that is too large', '02050080000000', readSmallInteger],
  ['a boolean of 01', '010101', readBoolean],
  ['a boolean of two bytes', '0102ffff', readBoolean],
  ['an empty boolean', '0100', readBoolean],
  ['an empty object identifier', '0600', readOid],
  ['an object identifier that is cut short', '06022a86', readOid],
  ['an object identifier with a leading zero', '06032a8001', readOid],
  ['an object identifier with an enormous arc', '060a2affffffffffffffff7f', readOid],
  ['an empty bit string', '0300', readBitString],
  ['a bit string with eight unused bits', '03020800', readBitString],
  ['a bit string with unused bits and no bytes', '030101', readBitString],
  ['a bit string with unused bits that are set', '03020101', readBitString],
  ['an octet string with the tag of another type', '030100', readOctetString],
  ['text with a NUL', '1603610062', readVisibleText],
  ['text with a line end', '1602610a', readVisibleText],
  ['text beyond ASCII', '1602c3a9', readVisibleText],
])('refuses %s', (_, bytes, read) => {
  expect(codeOf(() => read(readElement(hex(bytes))))).toBe('CS_DER_MALFORMED')
})

const utc = (text: string) => tlv(tags.utcTime, Buffer.from(text))
const generalized = (text: string) => tlv(tags.generalizedTime, Buffer.from(text))

test.each([
  ['1950', utc('500101000000Z'), '1950-01-01T00:00:00.000Z'],
  ['2049', utc('491231235959Z'), '2049-12-31T23:59:59.000Z'],
  ['2050', generalized('20500101000000Z'), '2050-01-01T00:00:00.000Z'],
  ['the end of time', generalized('99991231235959Z'), '9999-12-31T23:59:59.000Z'],
  ['a leap day', utc('240229120000Z'), '2024-02-29T12:00:00.000Z'],
  ['a year below 100', generalized('00500101000000Z'), '0050-01-01T00:00:00.000Z'],
])('reads a time in %s', (_, bytes, expected) => {
  expect(new Date(readTime(readElement(bytes))).toISOString()).toBe(expected)
})

test.each([
  ['no seconds', utc('2401011200Z')],
  ['an offset', utc('240101120000+0000')],
  ['no zone', utc('240101120000')],
  ['a fraction', generalized('20240101120000.5Z')],
  ['a day that does not exist', utc('230229120000Z')],
  ['month 13', utc('241301120000Z')],
  ['month 0', utc('240001120000Z')],
  ['hour 24', utc('240101240000Z')],
  ['a leap second', utc('240101235960Z')],
  ['another type', integer(5)],
  ['a blank', utc('24 101120000Z')],
])('refuses a time with %s', (_, bytes) => {
  expect(codeOf(() => readTime(readElement(bytes)))).toBe('CS_DER_MALFORMED')
})

test('writes the shortest form', () => {
  expect(toHex(integer(0))).toBe('020100')
  expect(toHex(integer(127))).toBe('02017f')
  expect(toHex(integer(128))).toBe('02020080')
  expect(toHex(integer(hex('000000ff')))).toBe('020200ff')
  expect(toHex(oid('2.999.3'))).toBe('0603883703')
  expect(toHex(namedBits(1))).toBe('03020780')
  expect(toHex(namedBits((1 << 5) | (1 << 6)))).toBe('03020106')
  expect(toHex(namedBits(0))).toBe('030100')
  expect(toHex(boolean(true))).toBe('0101ff')
  expect(toHex(setOf(integer(2), integer(1)))).toBe('3106020101020102')
  expect(toHex(tlv(tags.octetString, new Uint8Array(200))).slice(0, 6)).toBe('0481c8')
  expect(toHex(tlv(tags.octetString, new Uint8Array(256))).slice(0, 8)).toBe('04820100')
  expect(toHex(contextTag(0) === 0xa0 ? tlv(contextTag(0), integer(2)) : hex(''))).toBe(
    'a003020102',
  )
})

test.each([
  ['a negative integer', () => integer(-1)],
  ['an object identifier of words', () => oid('one.two')],
  ['a time before 1950', () => time(Date.UTC(1949, 1, 1))],
  ['a sign that PrintableString lacks', () => printableString('a@b')],
])('does not write %s', (_, write) => {
  expect(codeOf(write)).toBe('CS_DER_MALFORMED')
})

test('reads back every value that it writes', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 160n }), (value) => {
      const octets = readUnsigned(readElement(integer(value)))
      expect(BigInt(`0x0${toHex(octets)}`)).toBe(value)
    }),
  )
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 2 ** 31 }), { maxLength: 12 }), (arcs) => {
      const dotted = ['1.3', ...arcs].join('.')
      expect(readOid(readElement(oid(dotted)))).toBe(dotted)
    }),
  )
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 70_000 }), (bytes) => {
      expect(readOctetString(readElement(octetString(bytes)))).toEqual(bytes)
      expect(readBitString(readElement(bitString(bytes))).bytes).toEqual(bytes)
    }),
    { numRuns: 50 },
  )
  fc.assert(
    fc.property(
      fc.date({ min: new Date('1950-01-01'), max: new Date('9999-12-31'), noInvalidDate: true }),
      (date) => {
        const seconds = Math.floor(date.getTime() / 1000) * 1000
        expect(readTime(readElement(time(date.getTime())))).toBe(seconds)
      },
    ),
  )
})

/** Any tree of elements, with what went in. */
const trees = fc.letrec<{ tree: Uint8Array }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 5 },
    fc.uint8Array({ maxLength: 300 }).map((bytes) => octetString(bytes)),
    fc.nat().map((value) => integer(value)),
    fc.array(tie('tree'), { maxLength: 5 }).map((items) => sequence(...items)),
  ),
})).tree

test('takes a tree apart into exactly its bytes', () => {
  const rebuild = (bytes: Uint8Array): Uint8Array => {
    const element = readElement(bytes)
    if (element.tag !== tags.sequence) return tlv(element.tag, contentOf(element))
    return sequence(...children(element).map((child) => rebuild(bytesOf(child))))
  }
  fc.assert(
    fc.property(trees, (tree) => {
      expect(toHex(rebuild(tree))).toBe(toHex(tree))
    }),
  )
})

test('has one spelling for everything: what is accepted is what would be written', () => {
  const rewrite = (bytes: Uint8Array): Uint8Array => {
    const element = readElement(bytes)
    const constructed = (element.tag & 0x20) !== 0
    return constructed
      ? tlv(element.tag, ...children(element).map((child) => rewrite(bytesOf(child))))
      : tlv(element.tag, contentOf(element))
  }
  const nearlyDer = fc.tuple(trees, fc.nat(), fc.nat({ max: 255 })).map(([tree, at, byte]) => {
    const changed = new Uint8Array(tree)
    changed[at % changed.length] = byte
    return changed
  })
  fc.assert(
    fc.property(fc.oneof(nearlyDer, fc.uint8Array({ maxLength: 60 })), (bytes) => {
      const code = codeOf(() => walk(bytes))
      expect(['accepted', 'CS_DER_MALFORMED']).toContain(code)
      if (code === 'accepted') expect(toHex(rewrite(bytes))).toBe(toHex(bytes))
    }),
    { numRuns: 2000 },
  )
})

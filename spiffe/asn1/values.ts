import { contentOf, type DerElement, expectTag, malformed } from './read.js'
import { tags } from './tags.js'

export function readBoolean(element: DerElement): boolean {
  const content = contentOf(expectTag(element, tags.boolean))
  if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) {
    throw malformed('boolean is neither 00 nor ff')
  }
  return content[0] === 0xff
}

/** The two's complement octets of an INTEGER, in their shortest form. */
export function readInteger(element: DerElement | undefined): Uint8Array {
  const content = contentOf(expectTag(element, tags.integer))
  if (content.length === 0) throw malformed('integer is empty')
  const [first = 0, second] = content
  if (
    second !== undefined &&
    ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80))
  ) {
    throw malformed('integer is not in its shortest form')
  }
  return content
}

/** The octets of an INTEGER that may not be negative, without the leading zero. Zero gives no octets. */
export function readUnsigned(element: DerElement | undefined): Uint8Array {
  const content = readInteger(element)
  if ((content[0] ?? 0) >= 0x80) throw malformed('integer is negative')
  return content[0] === 0 ? content.subarray(1) : content
}

/** An INTEGER between 0 and 2^31-1. */
export function readSmallInteger(element: DerElement | undefined): number {
  const content = readUnsigned(element)
  const value = content.reduce((sum, octet) => sum * 256 + octet, 0)
  if (content.length > 4 || value > 0x7fffffff) throw malformed('integer is out of bounds')
  return value
}

/** A dotted object identifier. */
export function readOid(element: DerElement | undefined): string {
  const content = contentOf(expectTag(element, tags.oid))
  if (content.length === 0) throw malformed('object identifier is empty')
  const arcs: number[] = []
  let arc = 0
  let begun = false
  for (const octet of content) {
    if (!begun && octet === 0x80) throw malformed('object identifier is not in its shortest form')
    arc = arc * 128 + (octet & 0x7f)
    if (arc > Number.MAX_SAFE_INTEGER) throw malformed('object identifier is out of bounds')
    begun = octet >= 0x80
    if (begun) continue
    arcs.push(arc)
    arc = 0
  }
  if (begun) throw malformed('object identifier is cut short')
  const [joined = 0, ...rest] = arcs
  const root = Math.min(2, Math.floor(joined / 40))
  return [root, joined - root * 40, ...rest].join('.')
}

export interface BitString {
  readonly bytes: Uint8Array
  readonly unusedBits: number
}

export function readBitString(element: DerElement | undefined): BitString {
  return bitStringIn(expectTag(element, tags.bitString))
}

/** A BIT STRING under whatever tag. Unused bits are zero, as DER wants. */
export function bitStringIn(element: DerElement): BitString {
  const content = contentOf(element)
  const [unusedBits] = content
  if (unusedBits === undefined || unusedBits > 7) {
    throw malformed('bit string has no valid count of unused bits')
  }
  const bytes = content.subarray(1)
  const last = bytes.at(-1)
  if (last === undefined ? unusedBits > 0 : (last & ((1 << unusedBits) - 1)) !== 0) {
    throw malformed('bit string has unused bits that are set')
  }
  return { bytes, unusedBits }
}

/** The content of a BIT STRING that holds whole octets, such as a key or a signature. */
export function readBitStringOctets(element: DerElement | undefined): Uint8Array {
  const { bytes, unusedBits } = readBitString(element)
  if (unusedBits !== 0) throw malformed('bit string does not hold whole octets')
  return bytes
}

export function readOctetString(element: DerElement | undefined): Uint8Array {
  return contentOf(expectTag(element, tags.octetString))
}

/** The content as text, if all of it is printable ASCII: no NUL, no line end, nothing that prints as another. */
export function readVisibleText(element: DerElement): string {
  const content = contentOf(element)
  for (const octet of content) {
    if (octet < 0x20 || octet > 0x7e)
      throw malformed('text holds a byte that is not printable ASCII')
  }
  return Buffer.from(content.buffer, content.byteOffset, content.length).toString('latin1')
}

const UTC_TIME = /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/
const GENERALIZED_TIME = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/

/** A UTCTime or GeneralizedTime to the second and in UTC (RFC 5280 §4.1.2.5), in milliseconds since 1970. */
export function readTime(element: DerElement | undefined): number {
  if (element === undefined) throw malformed('time is missing')
  const utc = element.tag === tags.utcTime
  if (!utc) expectTag(element, tags.generalizedTime)
  const match = (utc ? UTC_TIME : GENERALIZED_TIME).exec(readVisibleText(element))
  if (match === null) throw malformed('time is not in UTC and to the second')
  const [written = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match
    .slice(1)
    .map(Number)
  const year = utc ? written + (written < 50 ? 2000 : 1900) : written
  const date = new Date(0)
  date.setUTCFullYear(year, month - 1, day)
  date.setUTCHours(hour, minute, second)
  const parts = [
    date.getUTCMonth() + 1,
    date.getUTCDate(),
    date.getUTCHours(),
    date.getUTCMinutes(),
  ]
  const wanted = [month, day, hour, minute]
  if (second > 59 || parts.some((part, index) => part !== wanted[index])) {
    throw malformed('time does not exist')
  }
  return date.getTime()
}

import { malformed } from './read.js'
import { tags } from './tags.js'

/** One element: the tag, the shortest length, and the parts one after the other. */
export function tlv(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  const header = lengthOctets(length)
  const bytes = new Uint8Array(1 + header.length + length)
  bytes[0] = tag
  bytes.set(header, 1)
  let at = 1 + header.length
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}

export function sequence(...items: readonly Uint8Array[]): Uint8Array {
  return tlv(tags.sequence, ...items)
}

/** A SET OF, sorted as DER wants it. */
export function setOf(...items: readonly Uint8Array[]): Uint8Array {
  return tlv(tags.set, ...[...items].sort((a, b) => Buffer.compare(a, b)))
}

export function boolean(value: boolean): Uint8Array {
  return tlv(tags.boolean, Uint8Array.of(value ? 0xff : 0))
}

/** A non-negative INTEGER, from a number or from big-endian octets. */
export function integer(value: number | bigint | Uint8Array): Uint8Array {
  const octets = value instanceof Uint8Array ? value : octetsOfNumber(BigInt(value))
  let start = 0
  while (start < octets.length - 1 && octets[start] === 0) start += 1
  const shortest = octets.length === 0 ? Uint8Array.of(0) : octets.subarray(start)
  return (shortest[0] ?? 0) >= 0x80
    ? tlv(tags.integer, Uint8Array.of(0), shortest)
    : tlv(tags.integer, shortest)
}

export function oid(dotted: string): Uint8Array {
  const [root = 0, second = 0, ...rest] = dotted.split('.').map(Number)
  const arcs = [root * 40 + second, ...rest]
  if (arcs.some((arc) => !Number.isSafeInteger(arc) || arc < 0)) {
    throw malformed('object identifier is not dotted numbers')
  }
  return tlv(tags.oid, Uint8Array.from(arcs.flatMap(base128)))
}

export function bitString(bytes: Uint8Array, unusedBits = 0): Uint8Array {
  return tlv(tags.bitString, Uint8Array.of(unusedBits), bytes)
}

/** A BIT STRING of named flags without trailing zero bits. Bit 0 is the lowest of `flags`. */
export function namedBits(flags: number): Uint8Array {
  const count = flags === 0 ? 0 : 32 - Math.clz32(flags)
  const bytes = new Uint8Array(Math.ceil(count / 8))
  for (let bit = 0; bit < count; bit += 1) {
    const index = bit >> 3
    if ((flags & (1 << bit)) !== 0) bytes[index] = (bytes[index] ?? 0) | (0x80 >> (bit & 7))
  }
  return bitString(bytes, bytes.length * 8 - count)
}

export function octetString(...parts: readonly Uint8Array[]): Uint8Array {
  return tlv(tags.octetString, ...parts)
}

export function nullValue(): Uint8Array {
  return tlv(tags.null)
}

export function utf8String(text: string): Uint8Array {
  return tlv(tags.utf8String, Buffer.from(text, 'utf8'))
}

/** Text for a name attribute that is limited to letters, digits and a few signs, such as a country. */
export function printableString(text: string): Uint8Array {
  if (!/^[A-Za-z0-9 '()+,\-./:=?]*$/.test(text)) throw malformed('text is not a PrintableString')
  return tlv(tags.printableString, Buffer.from(text, 'latin1'))
}

const FIRST_GENERALIZED_YEAR = 2050

/** A time to the second: UTCTime through 2049, GeneralizedTime after it (RFC 5280 §4.1.2.5). */
export function time(milliseconds: number): Uint8Array {
  const date = new Date(Math.floor(milliseconds / 1000) * 1000)
  const digits = date.toISOString().replaceAll(/[-:T]|\.000/g, '')
  const year = date.getUTCFullYear()
  if (year < 1950 || year > 9999) throw malformed('time is out of bounds')
  return year < FIRST_GENERALIZED_YEAR
    ? tlv(tags.utcTime, Buffer.from(digits.slice(2), 'latin1'))
    : tlv(tags.generalizedTime, Buffer.from(digits, 'latin1'))
}

function lengthOctets(length: number): Uint8Array {
  if (length < 0x80) return Uint8Array.of(length)
  const octets = octetsOfNumber(BigInt(length))
  return Uint8Array.of(0x80 | octets.length, ...octets)
}

function octetsOfNumber(value: bigint): Uint8Array {
  if (value < 0n) throw malformed('integer is negative')
  const hex = value.toString(16)
  return new Uint8Array(Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex'))
}

function base128(arc: number): number[] {
  const octets = [arc % 128]
  for (let rest = Math.floor(arc / 128); rest > 0; rest = Math.floor(rest / 128)) {
    octets.unshift(0x80 | (rest % 128))
  }
  return octets
}

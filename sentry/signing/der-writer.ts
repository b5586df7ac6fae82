/**
 * Writes DER from its end to its front, so that the length of everything is known when its header is
 * due and each byte is written once. `spiffe/asn1` nests calls instead, which reads better and takes
 * ten times as long; this is for what is written in every certificate.
 */
export interface DerWriter {
  /** Where the part that is written next will end, for the header that goes in front of it. */
  position(): number
  bytes(content: Uint8Array): void
  /** Text that is known to be ASCII. */
  ascii(content: string): void
  octet(value: number): void
  /** Wraps everything in front of `end`, up to now, in one element. */
  wrap(tag: number, end: number): void
  /** What was written. Node's pool may hold other things around it. */
  finish(): Uint8Array
}

/** `capacity` must be enough: what does not fit is a mistake of the caller and throws. */
export function derWriter(capacity: number): DerWriter {
  const buffer = Buffer.allocUnsafe(capacity)
  let at = capacity
  const octet = (value: number) => {
    at -= 1
    if (at < 0) throw new RangeError('DER is longer than was reckoned')
    buffer[at] = value
  }
  return {
    position: () => at,
    octet,
    bytes(content) {
      at -= content.length
      buffer.set(content, at)
    },
    ascii(content) {
      at -= content.length
      if (at < 0) throw new RangeError('DER is longer than was reckoned')
      buffer.write(content, at, 'latin1')
    },
    wrap(tag, end) {
      const length = end - at
      if (length < 0x80) octet(length)
      else writeLongLength(length, octet)
      octet(tag)
    },
    finish: () => buffer.subarray(at),
  }
}

/** Lowest octet first, as everything is written here; their count ends up in front. */
function writeLongLength(length: number, octet: (value: number) => void): void {
  let count = 0
  for (let rest = length; rest > 0; rest >>>= 8) {
    octet(rest & 0xff)
    count += 1
  }
  octet(0x80 | count)
}

/**
 * Walks along DER and says whether it is what is expected, piece by piece, without taking anything
 * out of it. Every method moves on and answers `true`, or answers `false` and is not to be used again.
 */
export class DerComparison {
  readonly #source: Buffer
  /** Where the elements end that are open, outermost first. */
  readonly #ends: number[] = []
  #at = 0

  constructor(der: Uint8Array) {
    this.#source = Buffer.from(der.buffer, der.byteOffset, der.length)
  }

  /** Goes into an element with this tag. */
  open(tag: number): boolean {
    const limit = this.#ends.at(-1) ?? this.#source.length
    const content = this.#at + 2
    const first = this.#source[this.#at + 1] ?? 0
    const count = first < 0x80 ? 0 : first & 0x7f
    if (content + count > limit || count > 2 || this.#source[this.#at] !== tag) return false
    let length = count === 0 ? first : 0
    for (let index = content; index < content + count; index += 1) {
      length = length * 256 + (this.#source[index] ?? 0)
    }
    // The form that DER wants: no length octets that could be spared.
    if (first >= 0x80 && length < (count === 1 ? 0x80 : 0x100)) return false
    this.#at = content + count
    this.#ends.push(this.#at + length)
    return this.#at + length <= limit
  }

  /** Leaves an element, of which nothing may be left. */
  close(): boolean {
    return this.#ends.pop() === this.#at
  }

  /** Goes over whatever else is in the element. */
  skipRest(): boolean {
    this.#at = this.#ends.at(-1) ?? this.#source.length
    return true
  }

  bytes(expected: Uint8Array): boolean {
    const start = this.#at
    this.#at += expected.length
    if (this.#at > this.#source.length) return false
    return this.#source.compare(expected, 0, expected.length, start, this.#at) === 0
  }

  octet(expected: number): boolean {
    this.#at += 1
    return this.#source[this.#at - 1] === expected
  }

  ascii(expected: string): boolean {
    const start = this.#at
    this.#at += expected.length
    return this.#source.toString('latin1', start, this.#at) === expected
  }

  atEnd(): boolean {
    return this.#ends.length === 0 && this.#at === this.#source.length
  }
}

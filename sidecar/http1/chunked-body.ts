import type { BodyLimits, BodyReader, BodySink } from './body.js'
import { CR, HEX, LF } from './characters.js'
import { readHeaders } from './header-section.js'
import type { WireFault } from './wire-fault.js'

/** Sizes are below 2^32: eight digits. */
const MAX_SIZE_DIGITS = 8

type State = 'size' | 'size-lf' | 'data' | 'data-cr' | 'data-lf' | 'trailers' | 'done'

/** A chunked body (RFC 9112 §7.1). Chunk extensions are refused: nobody needs them but smugglers. */
export class ChunkedBody implements BodyReader {
  readonly #limits: BodyLimits
  #state: State = 'size'
  #digits = 0
  #left = 0
  #total = 0
  #trailers = ''

  constructor(limits: BodyLimits) {
    this.#limits = limits
  }

  get done(): boolean {
    return this.#state === 'done'
  }

  read(bytes: Buffer, from: number, sink: BodySink): number | WireFault {
    let at = from
    while (at < bytes.length && this.#state !== 'done') {
      const next = this.#step(bytes, at, sink)
      if (typeof next === 'string') return next
      at = next
    }
    return at
  }

  #step(bytes: Buffer, at: number, sink: BodySink): number | WireFault {
    switch (this.#state) {
      case 'size':
        return this.#readSize(bytes, at)
      case 'size-lf':
        return bytes[at] === LF ? (this.#endSize() ?? at + 1) : 'bad_chunk'
      case 'data':
        return this.#readData(bytes, at, sink)
      case 'data-cr':
        this.#state = 'data-lf'
        return bytes[at] === CR ? at + 1 : 'bad_chunk'
      case 'data-lf':
        this.#state = 'size'
        return bytes[at] === LF ? at + 1 : 'bad_chunk'
      case 'trailers':
        return this.#readTrailers(bytes, at, sink)
      case 'done':
        return at
    }
  }

  #readSize(bytes: Buffer, from: number): number | WireFault {
    for (let at = from; at < bytes.length; at += 1) {
      const code = bytes[at] ?? 0
      const digit = HEX[code] ?? 255
      if (digit === 255) {
        if (code !== CR || this.#digits === 0) return 'bad_chunk'
        this.#state = 'size-lf'
        return at + 1
      }
      this.#digits += 1
      if (this.#digits > MAX_SIZE_DIGITS) return 'bad_chunk'
      this.#left = this.#left * 16 + digit
    }
    return bytes.length
  }

  #endSize(): WireFault | undefined {
    this.#total += this.#left
    if (this.#total > (this.#limits.bodyBytes ?? Infinity)) return 'body_too_large'
    this.#state = this.#left === 0 ? 'trailers' : 'data'
    this.#digits = 0
    return undefined
  }

  #readData(bytes: Buffer, from: number, sink: BodySink): number {
    const end = Math.min(bytes.length, from + this.#left)
    sink.content(bytes.subarray(from, end))
    this.#left -= end - from
    if (this.#left === 0) this.#state = 'data-cr'
    return end
  }

  #readTrailers(bytes: Buffer, from: number, sink: BodySink): number | WireFault {
    const held = this.#trailers.length
    const room = this.#limits.trailerBytes - held
    this.#trailers += bytes.toString('latin1', from, Math.min(bytes.length, from + room))
    const length = sectionLength(this.#trailers)
    if (length === undefined) {
      if (/(?:^|[^\r])\n/.test(this.#trailers)) return 'bare_line_end'
      return bytes.length - from > room ? 'head_too_large' : bytes.length
    }
    const trailers: string[] = []
    const text = this.#trailers.slice(0, length)
    const fault = readHeaders({ text, from: 0, maxCount: this.#limits.headers }, (name, value) => {
      trailers.push(name, value)
      return undefined
    })
    if (fault) return fault
    this.#state = 'done'
    sink.end(trailers)
    return from + length + '\r\n'.length - held
  }
}

/** The length of the header lines in front of the empty line, or undefined while that has not come. */
function sectionLength(text: string): number | undefined {
  if (text.startsWith('\r\n')) return 0
  const end = text.indexOf('\r\n\r\n')
  return end === -1 ? undefined : end + '\r\n'.length
}

import { type BodyLength, NO_TRAILERS } from '../exchange.js'
import { ChunkedBody } from './chunked-body.js'
import type { WireFault } from './wire-fault.js'

/** Where the content of a body goes while it is read. */
export interface BodySink {
  /** A view into what was read, lent for the call. */
  content(bytes: Buffer): void
  end(trailers: readonly string[]): void
}

export interface BodyLimits {
  readonly bodyBytes: number | undefined
  readonly trailerBytes: number
  readonly headers: number
}

/** Reads the bytes of one body; what comes after it belongs to the next message. */
export interface BodyReader {
  /** Takes bytes from `from` on and gives where it stopped, or what is wrong. */
  read(bytes: Buffer, from: number, sink: BodySink): number | WireFault
  readonly done: boolean
}

/** The reader of a body that a head announces; undefined when none follows. */
export function bodyReader(body: BodyLength, limits: BodyLimits): BodyReader | undefined {
  if (body === 'none' || body === 0) return undefined
  return body === 'streamed' ? new ChunkedBody(limits) : new SizedBody(body)
}

/** A body of a known number of bytes. */
class SizedBody implements BodyReader {
  #left: number

  constructor(length: number) {
    this.#left = length
  }

  get done(): boolean {
    return this.#left === 0
  }

  read(bytes: Buffer, from: number, sink: BodySink): number {
    const end = Math.min(bytes.length, from + this.#left)
    this.#left -= end - from
    sink.content(bytes.subarray(from, end))
    if (this.#left === 0) sink.end(NO_TRAILERS)
    return end
  }
}

/** A body, or a conversation after an upgrade, that only the end of the connection ends. */
export const endlessBody: BodyReader = {
  done: false,
  read(bytes, from, sink) {
    sink.content(bytes.subarray(from))
    return bytes.length
  },
}

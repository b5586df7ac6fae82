import { type Headers, NO_TRAILERS } from '../exchange.js'
import type { MessageLimits } from '../limits.js'
import { type BodyReader, type BodySink, bodyReader, endlessBody } from './body.js'
import { findHeadEnd } from './head-finder.js'
import { type Http1Request, readRequestHead } from './request-head.js'
import type { WireFault } from './wire-fault.js'

/** Takes what a connection sends, message by message. */
export interface RequestVisitor {
  request(request: Http1Request): void
  content(bytes: Buffer): void
  end(trailers: Headers): void
  /** The bytes are not HTTP; nothing after them is read. */
  fault(fault: WireFault): void
}

/** Method, two blanks and version of a request line, generously. */
const REST_OF_LINE = 64

/**
 * Cuts the bytes of a connection into requests. It stops behind each request until {@link next} is
 * called, so that a request sent ahead of its time waits for the answer to the one before.
 */
export class RequestReader {
  readonly #limits: MessageLimits
  readonly #visitor: RequestVisitor
  readonly #sink: BodySink
  #held: Buffer | undefined
  #body: BodyReader | undefined
  #waiting = false
  #running = false
  #stopped = false

  constructor(limits: MessageLimits, visitor: RequestVisitor) {
    this.#limits = limits
    this.#visitor = visitor
    this.#sink = {
      content: (bytes) => visitor.content(bytes),
      end: (trailers) => visitor.end(trailers),
    }
  }

  /** Whether the head or body of a request has begun and not ended. */
  get inMessage(): boolean {
    return this.#body !== undefined || (!this.#waiting && this.#held !== undefined)
  }

  /** How much waits for its turn. */
  get held(): number {
    return this.#held?.length ?? 0
  }

  push(bytes: Buffer): void {
    if (this.#stopped) return
    const all = this.#held ? Buffer.concat([this.#held, bytes]) : bytes
    this.#held = undefined
    this.#run(all)
  }

  /** The answer to the last request is out; go on with what was sent meanwhile. */
  next(): void {
    this.#waiting = false
    this.#resume()
  }

  /** Everything from here on is one conversation, not HTTP. */
  upgrade(): void {
    this.#waiting = false
    this.#body = endlessBody
    this.#resume()
  }

  /** Nothing more is read, and what was held is forgotten. */
  stop(): void {
    this.#stopped = true
    this.#held = undefined
  }

  #resume(): void {
    const held = this.#held
    // While a batch is being read, its own loop goes on with the rest.
    if (this.#running || held === undefined) return
    this.#held = undefined
    this.#run(held)
  }

  #run(bytes: Buffer): void {
    this.#running = true
    let at = 0
    while (at < bytes.length && !this.#stopped) {
      const next = this.#step(bytes, at)
      if (next === undefined) {
        // A copy, because a view would keep all of what was read in memory.
        if (!this.#stopped) this.#held = Buffer.from(bytes.subarray(at))
        break
      }
      at = next
    }
    this.#running = false
  }

  #step(bytes: Buffer, at: number): number | undefined {
    if (this.#body) return this.#readBody(this.#body, bytes, at)
    return this.#waiting ? undefined : this.#readHead(bytes, at)
  }

  #readBody(body: BodyReader, bytes: Buffer, at: number): number | undefined {
    const next = body.read(bytes, at, this.#sink)
    if (typeof next === 'string') return this.#fail(next)
    if (body.done && this.#body === body) this.#body = undefined
    return next
  }

  #readHead(bytes: Buffer, from: number): number | undefined {
    const { headBytes, targetBytes } = this.#limits
    const maxLine = targetBytes + REST_OF_LINE
    const end = findHeadEnd(bytes, { from, maxBytes: headBytes, maxLine })
    if (end === undefined) return undefined
    if (typeof end === 'string') return this.#fail(end)

    const request = readRequestHead(
      bytes.toString('latin1', from, end - '\r\n'.length),
      this.#limits,
    )
    if (typeof request === 'string') return this.#fail(request)
    this.#waiting = true
    this.#body = bodyReader(request.body, this.#limits)
    this.#visitor.request(request)
    if (!this.#body) this.#visitor.end(NO_TRAILERS)
    return end
  }

  #fail(fault: WireFault): undefined {
    this.stop()
    this.#visitor.fault(fault)
    return undefined
  }
}

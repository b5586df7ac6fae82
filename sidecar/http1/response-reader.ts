import type { Headers } from '../exchange.js'
import type { MessageLimits } from '../limits.js'
import { type BodyReader, type BodySink, bodyReader, endlessBody } from './body.js'
import { findHeadEnd } from './head-finder.js'
import { type Http1Response, readResponseHead } from './response-head.js'
import type { WireFault } from './wire-fault.js'

/** Takes what an app or peer sends, response by response. */
export interface ResponseVisitor {
  /** Any 1xx but 101. */
  informational(response: Http1Response): void
  response(response: Http1Response): void
  content(bytes: Buffer): void
  /** The response is complete. */
  end(trailers: Headers): void
  /** The bytes are not the answer that was asked for; nothing after them is read. */
  fault(fault: WireFault): void
}

/** More would only be a way to keep a caller waiting. */
const MAX_INFORMATIONAL = 16
const MAX_STATUS_LINE = 1024

/** Cuts the bytes of a connection into the responses that were asked for, and takes none that was not. */
export class ResponseReader {
  readonly #limits: MessageLimits
  readonly #visitor: ResponseVisitor
  readonly #sink: BodySink
  #held: Buffer | undefined
  #body: BodyReader | undefined
  /** The method of the request that waits for its response. */
  #expected: string | undefined
  #mayUpgrade = false
  #informational = 0
  #stopped = false

  constructor(limits: MessageLimits, visitor: ResponseVisitor) {
    this.#limits = limits
    this.#visitor = visitor
    this.#sink = {
      content: (bytes) => visitor.content(bytes),
      end: (trailers) => this.#end(trailers),
    }
  }

  expect(method: string, mayUpgrade: boolean): void {
    this.#expected = method
    this.#mayUpgrade = mayUpgrade
    this.#informational = 0
  }

  push(bytes: Buffer): void {
    let all = bytes
    if (this.#held) {
      all = Buffer.concat([this.#held, bytes])
      this.#held = undefined
    }
    let at = 0
    while (at < all.length && !this.#stopped) {
      const next = this.#body ? this.#readBody(this.#body, all, at) : this.#readHead(all, at)
      if (next === undefined) {
        if (!this.#stopped) this.#held = Buffer.from(all.subarray(at))
        return
      }
      at = next
    }
  }

  /** The connection has ended. True if that was the end of a response as well. */
  endOfInput(): boolean {
    if (this.#body !== endlessBody) return false
    this.#end([])
    return true
  }

  stop(): void {
    this.#stopped = true
    this.#held = undefined
  }

  #readBody(body: BodyReader, bytes: Buffer, at: number): number | undefined {
    const next = body.read(bytes, at, this.#sink)
    return typeof next === 'string' ? this.#fail(next) : next
  }

  #readHead(bytes: Buffer, from: number): number | undefined {
    const method = this.#expected
    // Bytes that nobody asked for would become the answer to the next request.
    if (method === undefined) return this.#fail('bad_status_line')
    const { headBytes } = this.#limits
    const end = findHeadEnd(bytes, { from, maxBytes: headBytes, maxLine: MAX_STATUS_LINE })
    if (end === undefined) return undefined
    if (typeof end === 'string') return this.#fail(end)

    const text = bytes.toString('latin1', from, end - '\r\n'.length)
    const response = readResponseHead(text, { method, limits: this.#limits })
    if (typeof response === 'string') return this.#fail(response)
    return this.#take(response) ? end : undefined
  }

  #take(response: Http1Response): boolean {
    const { status } = response
    if (status === 101) return this.#takeUpgrade(response)
    if (status < 200) return this.#takeInformational(response)
    this.#expected = undefined
    if (response.bodyFollows) {
      this.#body = response.untilClose ? endlessBody : bodyReader(response.body, this.#limits)
    }
    this.#visitor.response(response)
    if (!response.bodyFollows) this.#visitor.end([])
    return true
  }

  #takeUpgrade(response: Http1Response): boolean {
    if (!this.#mayUpgrade) {
      this.#fail('bad_upgrade')
      return false
    }
    this.#expected = undefined
    this.#body = endlessBody
    this.#visitor.response(response)
    return true
  }

  #takeInformational(response: Http1Response): boolean {
    this.#informational += 1
    if (this.#informational > MAX_INFORMATIONAL) {
      this.#fail('bad_status_line')
      return false
    }
    // The caller has had its 100 from us, before the app was asked.
    if (response.status !== 100) this.#visitor.informational(response)
    return true
  }

  #end(trailers: Headers): void {
    this.#body = undefined
    this.#visitor.end(trailers)
  }

  #fail(fault: WireFault): undefined {
    this.stop()
    this.#visitor.fault(fault)
    return undefined
  }
}

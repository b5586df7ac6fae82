import { type ClientHttp2Session, type ClientHttp2Stream, constants } from 'node:http2'
import {
  type ForwardedHead,
  type Headers,
  NO_TRAILERS,
  type Requester,
  type Responder,
  type ResponseHead,
} from '../exchange.js'
import type { Failure, FailureCode } from '../failures.js'
import { passedOnTrailers } from '../headers.js'
import type { Limits } from '../limits.js'
import { type RawFields, readResponse, readTrailers } from './read-fields.js'
import { requestFields } from './write-fields.js'

export interface ClientStreamOptions {
  readonly session: ClientHttp2Session
  readonly scheme: 'http' | 'https'
  readonly head: ForwardedHead
  readonly requester: Requester
  readonly limits: Limits
  /** What of the headers of a response is passed on. */
  readonly passedOn: (headers: Headers) => Headers
  /** Sends the request once more, on another session: this one's other side has not looked at it. */
  readonly again: (head: ForwardedHead, requester: Requester) => Responder | Failure
  readonly onClose: () => void
}

/** What may wait in a stream before the other side is asked to stop. */
const FULL = 256 * 1024

/** One request of ours on an HTTP/2 connection. Trailers of a request are not passed on. */
export class Http2ClientStream implements Responder {
  readonly #options: ClientStreamOptions
  readonly #stream: ClientHttp2Stream
  #requester: Requester | undefined
  /** Who has taken over. */
  #successor: Responder | undefined
  #responded = false
  #trailers: Headers = NO_TRAILERS

  constructor(options: ClientStreamOptions) {
    this.#options = options
    this.#requester = options.requester
    this.#stream = this.#open(options.session)
  }

  write(chunk: Buffer): void {
    if (!this.#stream.destroyed) this.#stream.write(Buffer.from(chunk))
  }

  finish(): void {
    if (!this.#stream.destroyed && !this.#stream.writableEnded) this.#stream.end()
  }

  flush(): boolean {
    return this.#stream.writableLength < FULL
  }

  resume(): void {
    this.#successor?.resume()
    this.#stream.resume()
  }

  abort(): void {
    this.#successor?.abort()
    this.#requester = undefined
    if (!this.#stream.destroyed) this.#stream.close(constants.NGHTTP2_CANCEL)
  }

  #open(session: ClientHttp2Session): ClientHttp2Stream {
    const { head, scheme } = this.#options
    const endStream = head.body === 'none' || head.body === 0
    const stream = session.request(requestFields(head, scheme), { endStream })
    stream
      .on('response', (_: object, flags: number, raw?: RawFields) => this.#onHead(raw, flags))
      .on('headers', (_: object, flags: number, raw?: RawFields) => this.#onHead(raw, flags))
      .on('data', (chunk: Buffer) => this.#onData(chunk))
      .on('trailers', (_: object, _flags: number, raw?: RawFields) => {
        const { response } = this.#options.limits
        this.#trailers = passedOnTrailers(readTrailers(raw ?? [], response))
      })
      .on('end', () => this.#onEnd())
      .on('drain', () => this.#requester?.resume())
      .on('error', () => {})
      .on('close', () => this.#onClose())
    return stream
  }

  #onHead(raw: RawFields = [], flags: number): void {
    const { limits, passedOn } = this.#options
    const ends = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0
    const head = readResponse(raw, { limits: limits.response, ends })
    if (typeof head === 'string') {
      this.#fail('upstream-invalid', head)
      this.#stream.close(constants.NGHTTP2_PROTOCOL_ERROR)
      return
    }
    this.#pass({ ...head, headers: passedOn(head.headers) })
  }

  #pass(head: ResponseHead): void {
    if (head.status < 200) {
      // The caller has had its 100 from us, before the other side was asked.
      if (head.status !== 100) this.#requester?.inform(head)
      return
    }
    this.#responded = true
    this.#requester?.respond(head)
    // What follows may take its time, as in a stream of messages.
    this.#requester?.flush()
  }

  #onData(chunk: Buffer): void {
    this.#requester?.write(chunk)
    if (this.#requester?.flush() === false) this.#stream.pause()
  }

  #onEnd(): void {
    const requester = this.#requester
    if (!requester || !this.#responded || this.#stream.rstCode !== constants.NGHTTP2_NO_ERROR)
      return
    this.#requester = undefined
    requester.finish(this.#trailers)
    requester.flush()
  }

  #onClose(): void {
    const { rstCode } = this.#stream
    if (this.#mayRepeat()) this.#repeat()
    else this.#fail('upstream-closed', `stream ended with code ${rstCode}`)
    this.#options.onClose()
  }

  /** Only what was never sent, or what the other side says it has not looked at; and only without a body. */
  #mayRepeat(): boolean {
    const { head } = this.#options
    const whole = head.body === 'none' || head.body === 0
    const unseen = this.#stream.pending || this.#stream.rstCode === constants.NGHTTP2_REFUSED_STREAM
    return whole && unseen && !this.#responded
  }

  #repeat(): void {
    const requester = this.#requester
    if (!requester) return
    const started = this.#options.again(this.#options.head, requester)
    if ('code' in started) this.#fail(started.code, started.detail)
    else this.#successor = started
  }

  #fail(code: FailureCode, detail = ''): void {
    const requester = this.#requester
    this.#requester = undefined
    requester?.fail({ code, detail })
    requester?.flush()
  }
}

import { constants, type ServerHttp2Stream } from 'node:http2'
import type { Deadlines, Timed } from '../deadlines.js'
import {
  type Answer,
  type CloseReason,
  type Exchange,
  type Headers,
  NO_TRAILERS,
  type Requester,
  type RequestHandler,
  type Responder,
  type ResponseHead,
} from '../exchange.js'
import type { Failure } from '../failures.js'
import { passedOnTrailers } from '../headers.js'
import type { WireFault } from '../http1/wire-fault.js'
import type { Limits } from '../limits.js'
import { type RawFields, readRequest, readTrailers } from './read-fields.js'
import { fieldsOf, responseFields } from './write-fields.js'

export interface ServerStreamOptions {
  readonly stream: ServerHttp2Stream
  readonly raw: RawFields
  /** No body follows. */
  readonly ends: boolean
  readonly handler: RequestHandler
  readonly limits: Limits
  readonly deadlines: Deadlines
  readonly onClose: (stream: Http2ServerStream) => void
}

/** What may wait in a stream before the other side is asked to stop. */
const FULL = 256 * 1024

/** One request on an HTTP/2 connection. */
export class Http2ServerStream implements Requester, Timed {
  deadline: number
  readonly #options: ServerStreamOptions
  readonly #exchange: Exchange
  #responder: Responder | undefined
  #gathered: Buffer[] = []
  #trailers: Headers = NO_TRAILERS
  #responded = false
  #silent = false
  #requestDone: boolean
  #responseDone = false
  #received = 0
  #awaitsDrain = false

  constructor(options: ServerStreamOptions) {
    const { stream, raw, ends, handler, limits, deadlines } = options
    this.#options = options
    this.#requestDone = ends
    this.deadline = deadlines.now + limits.time.response
    deadlines.add(this)
    stream.on('error', nothing).on('close', () => this.#onClose())
    const request = readRequest(raw, { limits: limits.request, ends })
    if (typeof request === 'string') {
      this.#exchange = handler.openUnreadable()
      this.#answer(this.#exchange.malformed(request))
      return
    }
    this.#silent = request.method === 'HEAD'
    this.#exchange = handler.open(request)
    this.#start(request.expectsContinue)
  }

  judgeAgain(): void {
    if (!this.#exchange.stillAllowed()) this.cut('policy')
  }

  cut(reason: CloseReason): void {
    this.#finishExchange(reason)
    this.#reset(constants.NGHTTP2_CANCEL)
  }

  inform({ status, headers }: ResponseHead): void {
    const { stream } = this.#options
    if (stream.headersSent || stream.destroyed) return
    const fields = fieldsOf(headers)
    fields[':status'] = status
    stream.additionalHeaders(fields)
  }

  respond(head: ResponseHead): void {
    const { stream } = this.#options
    if (stream.destroyed) return
    this.#responded = true
    this.#exchange.responded(head.status)
    this.#touch()
    const { body, status } = head
    this.#silent ||= body === 'none' || status === 204 || status === 304
    const waitForTrailers = body === 'streamed' && !this.#silent
    const options = { endStream: this.#silent, waitForTrailers, sendDate: false }
    if (waitForTrailers) stream.once('wantTrailers', () => this.#sendTrailers())
    try {
      stream.respond(responseFields(head), options)
    } catch {
      // The app repeats a field that HTTP/2 knows only once.
      this.#reset(constants.NGHTTP2_INTERNAL_ERROR)
    }
  }

  write(chunk: Buffer): void {
    if (this.#silent) return
    this.#exchange.bytesOut += chunk.length
    this.#gathered.push(Buffer.from(chunk))
  }

  finish(trailers: Headers): void {
    const { stream } = this.#options
    this.#trailers = trailers
    this.#responseDone = true
    if (!this.#silent && !stream.destroyed) stream.end(this.#takeGathered())
    this.#finishExchange('complete')
    if (!this.#requestDone) this.#linger()
  }

  fail(failure: Failure): void {
    this.#responder = undefined
    const answer = this.#exchange.answerTo(failure)
    if (this.#responded) this.cut('upstream')
    else this.#answer(answer)
  }

  flush(): boolean {
    const { stream } = this.#options
    const bytes = this.#takeGathered()
    if (bytes && !stream.destroyed && !this.#responseDone) stream.write(bytes)
    this.#touch()
    if (stream.writableLength < FULL) return true
    if (!this.#awaitsDrain) stream.once('drain', () => this.#onDrain())
    this.#awaitsDrain = true
    return false
  }

  resume(): void {
    this.#options.stream.resume()
  }

  onDeadline(): void {
    if (this.#responseDone) this.#reset(constants.NGHTTP2_NO_ERROR)
    else if (this.#responded) this.cut('idle')
    else {
      this.#responder?.abort()
      this.fail({ code: 'upstream-timeout' })
    }
  }

  #start(expectsContinue: boolean): void {
    const { stream, ends } = this.#options
    const started = this.#exchange.start(this)
    if ('answer' in started) {
      this.#answer(started.answer)
      return
    }
    this.#responder = started.responder
    if (ends) {
      this.#responder.finish(NO_TRAILERS)
      this.#responder.flush()
      return
    }
    if (expectsContinue) stream.additionalHeaders({ ':status': 100 })
    stream
      .on('data', (chunk: Buffer) => this.#onData(chunk))
      .on('trailers', (_headers: object, _flags: number, raw?: RawFields) => {
        this.#trailers = readTrailers(raw ?? [], this.#options.limits.request)
      })
      .on('end', () => this.#onEnd())
  }

  #onData(chunk: Buffer): void {
    this.#touch()
    this.#exchange.bytesIn += chunk.length
    this.#received += chunk.length
    if (this.#received > (this.#options.limits.request.bodyBytes ?? Infinity)) {
      this.#onFault('body_too_large')
      return
    }
    this.#responder?.write(chunk)
    if (this.#responder?.flush() === false) this.#options.stream.pause()
  }

  #onEnd(): void {
    this.#requestDone = true
    this.#responder?.finish(passedOnTrailers(this.#trailers))
    this.#responder?.flush()
  }

  #onFault(fault: WireFault): void {
    this.#responder?.abort()
    this.#responder = undefined
    const answer = this.#exchange.malformed(fault)
    if (this.#responded) this.cut('malformed')
    else this.#answer(answer)
  }

  #answer({ head, content }: Answer): void {
    const bodyless = content.length === 0
    this.respond(bodyless ? { ...head, body: 'none' } : head)
    if (!bodyless) this.write(content)
    this.finish(NO_TRAILERS)
  }

  #sendTrailers(): void {
    const { stream } = this.#options
    if (stream.destroyed) return
    try {
      stream.sendTrailers(fieldsOf(this.#trailers))
    } catch {
      this.#reset(constants.NGHTTP2_INTERNAL_ERROR)
    }
  }

  #takeGathered(): Buffer | undefined {
    const gathered = this.#gathered
    if (gathered.length === 0) return undefined
    this.#gathered = []
    return gathered.length === 1 ? gathered[0] : Buffer.concat(gathered)
  }

  /** What is left of the request is thrown away for a while: a reset at once could overtake the answer. */
  #linger(): void {
    const { stream, deadlines, limits } = this.#options
    this.deadline = deadlines.now + limits.time.linger
    if (!stream.destroyed) stream.resume()
  }

  #touch(): void {
    if (this.#responseDone) return
    const { deadlines, limits } = this.#options
    const { idle, response } = limits.time
    this.deadline = deadlines.now + (this.#responded ? idle : response)
  }

  #onDrain(): void {
    this.#awaitsDrain = false
    this.#touch()
    this.#responder?.resume()
  }

  #reset(code: number): void {
    const { stream } = this.#options
    if (!stream.destroyed) stream.close(code)
  }

  #finishExchange(how: CloseReason): void {
    const responder = this.#responder
    this.#responder = undefined
    if (how !== 'complete') responder?.abort()
    this.#exchange.finished(how)
  }

  #onClose(): void {
    const { deadlines, onClose } = this.#options
    deadlines.remove(this)
    this.#finishExchange('caller')
    onClose(this)
  }
}

/** What goes wrong with a stream, its end tells as well. */
const nothing = () => {}

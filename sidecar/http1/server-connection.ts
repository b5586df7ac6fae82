import type { Socket } from 'node:net'
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
import type { Limits } from '../limits.js'
import type { Http1Request } from './request-head.js'
import { RequestReader } from './request-reader.js'
import { ResponseWriter } from './response-writer.js'
import type { WireFault } from './wire-fault.js'

export interface ServerConnectionOptions {
  readonly socket: Socket
  readonly handler: RequestHandler
  readonly limits: Limits
  readonly deadlines: Deadlines
}

/** What is read and thrown away of a refused request, so that its connection can be kept. */
const DISCARD_BYTES = 64 * 1024

/** For a request that is on its way when a drain begins. */
const DRAIN_NOTICE_MS = 500

const CONTINUE: ResponseHead = { status: 100, reason: 'Continue', headers: [], body: 'none' }

/** The serving end of one HTTP/1.1 connection: one request after the other, each judged by itself. */
export class Http1ServerConnection implements Requester, Timed {
  deadline: number
  readonly #options: ServerConnectionOptions
  readonly #writer: ResponseWriter
  readonly #reader: RequestReader
  #request: Http1Request | undefined
  #exchange: Exchange | undefined
  #responder: Responder | undefined
  #requestDone = false
  #responseDone = false
  #discardable = DISCARD_BYTES
  /** Whether another request may follow. */
  #keep = true
  /** The next response announces the end. */
  #leaving: 'no' | 'retired' | 'draining' = 'no'
  #closing = false

  constructor(options: ServerConnectionOptions) {
    const { socket, limits, deadlines } = options
    this.#options = options
    this.#writer = new ResponseWriter(socket)
    this.#reader = new RequestReader(limits.request, {
      request: (request) => this.#onRequest(request),
      content: (bytes) => this.#onContent(bytes),
      end: (trailers) => this.#onRequestEnd(trailers),
      fault: (fault) => this.#onFault(fault),
    })
    this.deadline = deadlines.now + limits.time.keepAlive
    deadlines.add(this)
    socket
      .on('data', (chunk: Buffer) => this.#onData(chunk))
      .on('drain', () => this.#onDrain())
      .on('end', () => this.#onEnd())
      .on('error', () => socket.destroy())
      .on('close', () => this.#onClose())
  }

  get busy(): boolean {
    return this.#exchange !== undefined
  }

  /** Ends after the next response, or soon when there is none: a request may be on its way already. */
  drain(): void {
    this.#leaving = 'draining'
    if (!this.#exchange && !this.#reader.inMessage) this.#wait(DRAIN_NOTICE_MS)
  }

  /** The next response is the last. An unused connection stays, so that no request is lost on its way. */
  retire(): void {
    if (this.#leaving === 'no') this.#leaving = 'retired'
  }

  /** Judges the request under way again; cuts the connection if it would be refused now. */
  judgeAgain(): void {
    if (this.#exchange?.stillAllowed() === false) this.cut('policy')
  }

  cut(reason: CloseReason): void {
    this.#finishExchange(reason)
    this.#options.socket.destroy()
  }

  inform(head: ResponseHead): void {
    this.#writer.inform(head)
  }

  respond(head: ResponseHead): void {
    this.#exchange?.responded(head.status)
    const keep = this.#keep && this.#leaving === 'no'
    this.#keep = this.#writer.head(head, { keep })
    if (this.#writer.upgraded) this.#upgrade()
  }

  write(chunk: Buffer): void {
    const written = this.#writer.body(chunk)
    if (this.#exchange) this.#exchange.bytesOut += written
  }

  finish(trailers: Headers): void {
    this.#writer.end(trailers)
    this.#responseDone = true
    if (this.#writer.upgraded) this.#endUpgraded()
    else if (this.#requestDone) this.#endExchange()
    else this.#responder = undefined
  }

  fail(failure: Failure): void {
    const exchange = this.#exchange
    if (!exchange) return
    this.#responder = undefined
    const answer = exchange.answerTo(failure)
    if (!this.#writer.begun) this.#answer(answer)
    else {
      // What is out already cannot be taken back; that it is incomplete, only the cut can tell.
      this.#writer.flush()
      this.cut('upstream')
    }
  }

  flush(): boolean {
    if (this.#exchange) this.#touch()
    return this.#writer.flush()
  }

  resume(): void {
    if (!this.#closing && !this.#holdsTooMuch()) this.#options.socket.resume()
  }

  onDeadline(): void {
    if (this.#closing) this.#options.socket.destroy()
    else if (this.#exchange && !this.#writer.begun) this.#giveUp()
    else if (this.#exchange) this.cut('idle')
    else if (this.#reader.inMessage) this.#onFault('header_timeout')
    else this.#shut()
  }

  #onData(chunk: Buffer): void {
    if (this.#closing) return
    const { socket, limits } = this.#options
    const fresh = !this.#exchange && !this.#reader.inMessage
    this.#reader.push(chunk)
    this.#writer.flush()
    if (this.#responder?.flush() === false || this.#holdsTooMuch()) socket.pause()
    if (this.#exchange) this.#touch()
    else if (fresh && this.#reader.inMessage) this.#wait(limits.time.head)
  }

  #onRequest(request: Http1Request): void {
    this.#request = request
    this.#discardable = DISCARD_BYTES
    this.#keep &&= request.keepAlive
    this.#writer.begin(request)
    this.#exchange = this.#options.handler.open(request)
    const started = this.#exchange.start(this)
    if ('answer' in started) {
      this.#answer(started.answer)
      return
    }
    this.#responder = started.responder
    if (request.expectsContinue && request.body !== 'none') this.#writer.inform(CONTINUE)
  }

  #onContent(bytes: Buffer): void {
    if (this.#exchange) this.#exchange.bytesIn += bytes.length
    if (this.#responder) this.#responder.write(bytes)
    else this.#discard(bytes.length)
  }

  #onRequestEnd(trailers: Headers): void {
    this.#requestDone = true
    this.#responder?.finish(passedOnTrailers(trailers))
    if (this.#responseDone) this.#endExchange()
  }

  /** What came before in the same batch has not been sent on yet, so the app sees none of it. */
  #onFault(fault: WireFault): void {
    this.#responder?.abort()
    this.#responder = undefined
    this.#exchange ??= this.#options.handler.openUnreadable()
    const answer = this.#exchange.malformed(fault)
    this.#keep = false
    this.#requestDone = true
    if (!this.#writer.begun) this.#answer(answer)
    else if (this.#responseDone) this.#endExchange()
    else this.cut('malformed')
  }

  /** An answer of our own; the last one if too much of the request is still to come. */
  #answer({ head, content, isLast }: Answer): void {
    if (isLast || (!this.#requestDone && this.#isRestLong())) this.#keep = false
    this.respond(head)
    if (this.#request?.method !== 'HEAD') this.write(content)
    this.finish(NO_TRAILERS)
    if (!this.#requestDone && !this.#keep) this.#endExchange()
    this.#writer.flush()
  }

  #isRestLong(): boolean {
    const { body, expectsContinue } = this.#request ?? { body: 'none' }
    return expectsContinue === true || body === 'streamed' || Number(body) > DISCARD_BYTES
  }

  #discard(length: number): void {
    this.#discardable -= length
    if (this.#discardable >= 0) return
    this.#keep = false
    this.#endExchange()
  }

  #upgrade(): void {
    this.#requestDone = false
    this.#reader.upgrade()
    this.#responder?.flush()
  }

  #endUpgraded(): void {
    this.#writer.flush()
    this.#options.socket.end()
    if (this.#requestDone) this.#finishExchange('complete')
    else this.#wait(this.#options.limits.time.halfClosed)
  }

  #endExchange(): void {
    this.#finishExchange('complete')
    this.#request = undefined
    this.#requestDone = false
    this.#responseDone = false
    this.#writer.begin(undefined)
    if (!this.#keep) {
      this.#shut()
      return
    }
    const { limits, socket } = this.#options
    this.#wait(this.#leaving === 'draining' ? DRAIN_NOTICE_MS : limits.time.keepAlive)
    const held = this.#reader.held > 0
    this.#reader.next()
    if (held) this.#onMoreRead()
    // The end of a body may have been too much for the app, and its answer was quicker than its reading.
    else if (socket.isPaused()) this.resume()
  }

  /** Requests sent ahead of their time wait here, up to a limit. */
  #holdsTooMuch(): boolean {
    return this.#reader.held > this.#options.limits.request.headBytes
  }

  /** A request that was sent ahead of its time has had its turn. */
  #onMoreRead(): void {
    const { socket, limits } = this.#options
    if (this.#responder?.flush() === false) socket.pause()
    else this.resume()
    if (this.#exchange) this.#touch()
    else if (this.#reader.inMessage) this.#wait(limits.time.head)
  }

  #finishExchange(how: CloseReason): void {
    const exchange = this.#exchange
    const responder = this.#responder
    this.#exchange = undefined
    this.#responder = undefined
    if (how !== 'complete') responder?.abort()
    exchange?.finished(how)
  }

  #giveUp(): void {
    this.#responder?.abort()
    this.#keep = false
    this.fail({ code: 'upstream-timeout' })
  }

  #onDrain(): void {
    if (this.#exchange) this.#touch()
    this.#responder?.resume()
  }

  #touch(): void {
    const { idle, response } = this.#options.limits.time
    this.#wait(this.#writer.begun ? idle : response)
  }

  #wait(ms: number): void {
    this.deadline = this.#options.deadlines.now + ms
  }

  /** In a conversation only this direction has ended; else nobody waits for an answer any more. */
  #onEnd(): void {
    if (this.#writer.upgraded) {
      this.#onRequestEnd(NO_TRAILERS)
      this.#responder?.flush()
      return
    }
    this.#keep = false
    this.#finishExchange('caller')
    this.#shut()
  }

  /** Says goodbye, and gives the caller time to read it: a reset could overtake the answer. */
  #shut(): void {
    if (this.#closing) return
    const { socket, limits } = this.#options
    this.#closing = true
    this.#reader.stop()
    this.#writer.flush()
    socket.end()
    socket.resume()
    this.#wait(limits.time.linger)
  }

  #onClose(): void {
    this.#options.deadlines.remove(this)
    this.#closing = true
    this.#reader.stop()
    this.#finishExchange('caller')
  }
}

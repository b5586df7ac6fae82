import type { Socket } from 'node:net'
import type { Deadlines, Timed } from '../deadlines.js'
import type { ForwardedHead, Headers, Requester, Responder } from '../exchange.js'
import type { FailureCode } from '../failures.js'
import { passedOnTrailers } from '../headers.js'
import type { Limits } from '../limits.js'
import { BatchWriter } from './batch-writer.js'
import type { Http1Response } from './response-head.js'
import { ResponseReader } from './response-reader.js'
import type { WireFault } from './wire-fault.js'
import { headerLines, requestHeadText } from './write-head.js'

export interface ClientConnectionOptions {
  readonly socket: Socket
  readonly limits: Limits
  readonly deadlines: Deadlines
  /** How long it is kept unused. */
  readonly keepIdle: number
  /** What of the headers of a response is passed on. */
  readonly passedOn: (headers: Headers) => Headers
  /** Can take another request. */
  readonly onFree: (connection: Http1ClientConnection) => void
  readonly onClose: (connection: Http1ClientConnection) => void
}

/** An app says how long it keeps a connection; ours goes this much earlier, so that both never cross. */
const KEEP_ALIVE_MARGIN_MS = 1000

/** The asking end of one HTTP/1.1 connection. */
export class Http1ClientConnection implements Responder, Timed {
  deadline: number
  readonly #options: ClientConnectionOptions
  readonly #writer: BatchWriter
  readonly #reader: ResponseReader
  #requester: Requester | undefined
  #connected: boolean
  #chunked = false
  #upgraded = false
  #requestDone = true
  #keep = true
  #keepIdle: number

  constructor(options: ClientConnectionOptions) {
    const { socket, limits, deadlines } = options
    this.#options = options
    this.#keepIdle = options.keepIdle
    this.#writer = new BatchWriter(socket)
    this.#reader = new ResponseReader(limits.response, {
      informational: (response) => this.#requester?.inform(this.#passedOn(response)),
      response: (response) => this.#onResponse(response),
      content: (bytes) => this.#requester?.write(bytes),
      end: (trailers) => this.#onResponseEnd(trailers),
      fault: (fault) => this.#onFault(fault),
    })
    this.#connected = !socket.connecting
    this.deadline = this.#connected ? Infinity : deadlines.now + limits.time.connect
    deadlines.add(this)
    socket
      .on('connect', () => this.#onConnect())
      .on('drain', () => this.#requester?.resume())
      .on('end', () => this.#onEnd())
      .on('error', () => socket.destroy())
      .on('close', () => this.#onClose())
  }

  /** Whether a request may be started on it. */
  get usable(): boolean {
    return this.#keep && !this.#requester && !this.#options.socket.destroyed
  }

  request(head: ForwardedHead, requester: Requester): Responder {
    this.#requester = requester
    this.#requestDone = false
    this.#upgraded = false
    this.#chunked = head.body === 'streamed'
    if (this.#connected) this.deadline = Infinity
    this.#reader.expect(head.method, head.upgrade)
    this.#writer.text(requestHeadText(head))
    return this
  }

  /** Takes what the socket has read. The bytes are lent. */
  received(bytes: Buffer): void {
    this.#reader.push(bytes)
    if (this.#requester?.flush() === false) this.#options.socket.pause()
  }

  write(chunk: Buffer): void {
    // A chunk of no bytes would be the end of the body.
    if (chunk.length === 0) return
    if (!this.#chunked) {
      this.#writer.bytes(chunk)
      return
    }
    this.#writer.text(`${chunk.length.toString(16)}\r\n`)
    this.#writer.bytes(chunk)
    this.#writer.text('\r\n')
  }

  finish(trailers: Headers): void {
    if (this.#chunked) this.#writer.text(`0\r\n${headerLines(trailers)}\r\n`)
    this.#requestDone = true
    if (!this.#upgraded) return
    this.#writer.flush()
    this.#options.socket.end()
  }

  flush(): boolean {
    return this.#writer.flush()
  }

  resume(): void {
    this.#options.socket.resume()
  }

  /** Nothing that has not been flushed is sent. */
  abort(): void {
    this.#requester = undefined
    this.#writer.drop()
    this.#options.socket.destroy()
  }

  /** Takes no further request; ends when the one under way is complete. */
  retire(): void {
    this.#keep = false
    if (!this.#requester) this.#options.socket.destroy()
  }

  onDeadline(): void {
    if (this.#requester) this.#fail('upstream-timeout')
    this.#options.socket.destroy()
  }

  #onConnect(): void {
    this.#connected = true
    this.deadline = Infinity
  }

  #onResponse(response: Http1Response): void {
    const { status, keepAlive, keepAliveSeconds } = response
    this.#keep &&= keepAlive
    this.#keepIdle = idleTime(this.#options.keepIdle, keepAliveSeconds)
    if (status === 101) {
      this.#upgraded = true
      this.#requestDone = false
      this.#keep = false
    }
    this.#requester?.respond(this.#passedOn(response))
  }

  #passedOn(response: Http1Response): Http1Response {
    const headers = this.#options.passedOn(response.headers)
    return headers === response.headers ? response : { ...response, headers }
  }

  #onResponseEnd(sent: Headers): void {
    const trailers = passedOnTrailers(sent)
    const requester = this.#requester
    if (this.#upgraded) {
      requester?.finish(trailers)
      return
    }
    this.#requester = undefined
    const free = this.#requestDone && this.#keep
    if (free) {
      this.deadline = this.#options.deadlines.now + this.#keepIdle
      this.#options.onFree(this)
    }
    requester?.finish(trailers)
    requester?.flush()
    if (!free) this.#options.socket.destroy()
  }

  #onFault(fault: WireFault): void {
    this.#fail('upstream-invalid', fault)
    this.#options.socket.destroy()
  }

  #onEnd(): void {
    if (this.#reader.endOfInput()) this.#requester?.flush()
    else this.#options.socket.destroy()
  }

  #onClose(): void {
    const { deadlines, onClose } = this.#options
    deadlines.remove(this)
    this.#keep = false
    this.#reader.stop()
    this.#fail(this.#connected ? 'upstream-closed' : 'upstream-unreachable')
    onClose(this)
  }

  #fail(code: FailureCode, detail?: string): void {
    const requester = this.#requester
    this.#requester = undefined
    if (!requester) return
    requester.fail(detail === undefined ? { code } : { code, detail })
    requester.flush()
  }
}

function idleTime(usual: number, promisedSeconds: number | undefined): number {
  if (promisedSeconds === undefined) return usual
  return Math.max(0, Math.min(usual, promisedSeconds * 1000 - KEEP_ALIVE_MARGIN_MS))
}

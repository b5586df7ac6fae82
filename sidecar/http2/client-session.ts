import { type ClientHttp2Session, connect } from 'node:http2'
import type { Socket } from 'node:net'
import type { Deadlines, Timed } from '../deadlines.js'
import type { ForwardedHead, Headers, Requester, Responder } from '../exchange.js'
import type { Failure } from '../failures.js'
import type { Limits } from '../limits.js'
import { Http2ClientStream } from './client-stream.js'

export interface ClientSessionOptions {
  readonly socket: Socket
  readonly scheme: 'http' | 'https'
  readonly limits: Limits
  readonly deadlines: Deadlines
  /** How long it is kept unused. */
  readonly keepIdle: number
  readonly passedOn: (headers: Headers) => Headers
  /** Sends a request once more that this session's other side has refused unseen. */
  readonly again: (head: ForwardedHead, requester: Requester) => Responder | Failure
  readonly onClose: (session: Http2ClientSession) => void
}

const STREAM_WINDOW = 512 * 1024
const SESSION_WINDOW = 4 * 1024 * 1024
/** Until the other side has said how many it takes. */
const USUAL_STREAMS = 100

/** The asking end of one HTTP/2 connection. */
export class Http2ClientSession implements Timed {
  deadline: number
  readonly #options: ClientSessionOptions
  readonly #session: ClientHttp2Session
  #streams = 0
  #leaving = false

  constructor(options: ClientSessionOptions) {
    const { socket, scheme, limits, deadlines, onClose } = options
    this.#options = options
    this.deadline = deadlines.now + limits.time.connect
    this.#session = connect(`${scheme}://localhost`, {
      createConnection: () => socket,
      maxHeaderListPairs: limits.response.headers,
      settings: {
        enablePush: false,
        initialWindowSize: STREAM_WINDOW,
        maxHeaderListSize: limits.response.headBytes,
      },
    } as Parameters<typeof connect>[1])
    deadlines.add(this)
    this.#session
      .on('connect', () => this.#onConnect())
      .on('goaway', () => this.retire())
      .on('error', () => socket.destroy())
      .on('close', () => {
        deadlines.remove(this)
        this.#leaving = true
        socket.destroy()
        onClose(this)
      })
    socket.on('error', () => {})
  }

  /** Whether another request may be started on it. */
  get usable(): boolean {
    const { maxConcurrentStreams = USUAL_STREAMS } = this.#session.remoteSettings ?? {}
    const room = this.#streams < Math.min(maxConcurrentStreams, 1000)
    return room && !this.#leaving && !this.#session.closed && !this.#session.destroyed
  }

  /** Resolves when the other side has sent its settings, so has taken the connection; false if it closed. */
  whenSettled(): Promise<boolean> {
    return new Promise((resolve) => {
      this.#session.once('remoteSettings', () => resolve(true))
      this.#session.once('close', () => resolve(false))
    })
  }

  request(head: ForwardedHead, requester: Requester): Responder | Failure {
    const { scheme, limits, passedOn, again } = this.#options
    const onClose = () => this.#onStreamClose()
    const session = this.#session
    const stream = { session, scheme, head, requester, limits, passedOn, again, onClose }
    try {
      const started = new Http2ClientStream(stream)
      this.#streams += 1
      if (!session.connecting) this.deadline = Number.POSITIVE_INFINITY
      return started
    } catch (error) {
      // Such as a field that HTTP/2 knows only once, and that was sent twice.
      return { code: 'upstream-invalid', detail: (error as Error).message }
    }
  }

  /** Takes no further request; ends when those under way are complete. */
  retire(): void {
    if (this.#leaving) return
    this.#leaving = true
    if (!this.#session.destroyed) this.#session.close()
  }

  destroy(): void {
    this.#session.destroy()
    this.#options.socket.destroy()
  }

  onDeadline(): void {
    this.destroy()
  }

  #onConnect(): void {
    this.#session.setLocalWindowSize(SESSION_WINDOW)
    const { deadlines, keepIdle } = this.#options
    this.deadline = this.#streams > 0 ? Number.POSITIVE_INFINITY : deadlines.now + keepIdle
  }

  #onStreamClose(): void {
    this.#streams -= 1
    if (this.#streams === 0) {
      this.deadline = this.#options.deadlines.now + this.#options.keepIdle
    }
  }
}

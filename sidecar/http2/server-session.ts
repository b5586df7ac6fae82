import {
  constants,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2'
import type { Duplex } from 'node:stream'
import type { Deadlines, Timed } from '../deadlines.js'
import type { CloseReason, RequestHandler } from '../exchange.js'
import type { Limits } from '../limits.js'
import type { RawFields } from './read-fields.js'
import { Http2ServerStream } from './server-stream.js'

export interface ServerSessionOptions {
  readonly socket: Duplex
  readonly handler: RequestHandler
  readonly limits: Limits
  readonly deadlines: Deadlines
}

/** The largest stream id: a GOAWAY with it announces the end and refuses nothing yet. */
const LAST_STREAM = 2 ** 31 - 1
/** Between that and the end, so that no request on its way is lost. */
const NOTICE_MS = 1000
const STREAM_WINDOW = 512 * 1024
const SESSION_WINDOW = 4 * 1024 * 1024

/** The serving end of one HTTP/2 connection. */
export class Http2ServerSession implements Timed {
  deadline: number
  readonly #options: ServerSessionOptions
  readonly #session: ServerHttp2Session
  readonly #streams = new Set<Http2ServerStream>()
  #leaving = false

  constructor(options: ServerSessionOptions) {
    const { socket, deadlines, limits } = options
    this.#options = options
    this.deadline = deadlines.now + limits.time.idle
    this.#session = performServerHandshake(socket, sessionOptions(limits))
    this.#session.setLocalWindowSize(SESSION_WINDOW)
    deadlines.add(this)
    this.#session
      .on('stream', (stream: ServerHttp2Stream, _: object, flags: number, raw: RawFields) =>
        this.#onStream(stream, flags, raw),
      )
      .on('error', () => socket.destroy())
      .on('frameError', () => {})
      .on('close', () => {
        deadlines.remove(this)
        socket.destroy()
      })
  }

  get busy(): boolean {
    return this.#streams.size > 0
  }

  drain(): void {
    this.retire()
  }

  retire(): void {
    if (this.#leaving || this.#session.destroyed) return
    this.#leaving = true
    this.#session.goaway(constants.NGHTTP2_NO_ERROR, LAST_STREAM)
    this.deadline = this.#options.deadlines.now + NOTICE_MS
  }

  judgeAgain(): void {
    for (const stream of this.#streams) stream.judgeAgain()
  }

  cut(reason: CloseReason): void {
    for (const stream of this.#streams) stream.cut(reason)
    this.#session.destroy()
    this.#options.socket.destroy()
  }

  onDeadline(): void {
    this.deadline = Number.POSITIVE_INFINITY
    if (!this.#session.destroyed) this.#session.close()
  }

  #onStream(stream: ServerHttp2Stream, flags: number, raw: RawFields): void {
    const { handler, limits, deadlines } = this.#options
    const ends = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0
    const onClose = this.#onStreamClose
    this.#streams.add(
      new Http2ServerStream({ stream, raw, ends, handler, limits, deadlines, onClose }),
    )
    if (!this.#leaving) this.deadline = Number.POSITIVE_INFINITY
  }

  readonly #onStreamClose = (stream: Http2ServerStream): void => {
    const { limits, deadlines } = this.#options
    this.#streams.delete(stream)
    if (this.#streams.size > 0 || this.#leaving) return
    this.deadline = deadlines.now + limits.time.idle
  }
}

/** Node bounds floods of settings, pings, resets and invalid frames by itself; these are its other limits. */
function sessionOptions({ request, connection }: Limits) {
  return {
    maxHeaderListPairs: request.headers + PSEUDO_FIELDS,
    maxOutstandingPings: 10,
    maxSettings: 32,
    maxSessionInvalidFrames: 100,
    maxSessionRejectedStreams: 100,
    settings: {
      enablePush: false,
      initialWindowSize: STREAM_WINDOW,
      maxConcurrentStreams: connection.streams,
      maxHeaderListSize: request.headBytes,
    },
  }
}

const PSEUDO_FIELDS = 8

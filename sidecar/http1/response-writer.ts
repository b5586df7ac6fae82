import type { Socket } from 'node:net'
import type { Headers, ResponseHead } from '../exchange.js'
import { BatchWriter } from './batch-writer.js'
import type { Http1Request } from './request-head.js'
import { headerLines, type ResponseFraming, responseHeadText } from './write-head.js'

/** Writes responses, each framed so that its reader can tell where it ends. */
export class ResponseWriter {
  readonly #writer: BatchWriter
  #request: Http1Request | undefined
  #framing: ResponseFraming['body'] | 'upgraded' | undefined

  constructor(socket: Socket) {
    this.#writer = new BatchWriter(socket)
  }

  /** What is written next answers this request, or bytes that are none. */
  begin(request: Http1Request | undefined): void {
    this.#request = request
    this.#framing = undefined
  }

  /** Whether the head of the response is out. */
  get begun(): boolean {
    return this.#framing !== undefined
  }

  /** Whether both sides have left HTTP. */
  get upgraded(): boolean {
    return this.#framing === 'upgraded'
  }

  /** A 100 before, or any other 1xx ahead of the response. HTTP/1.0 does not know them. */
  inform(head: ResponseHead): void {
    if (this.#request?.minor !== 1) return
    this.#writer.text(responseHeadText(head, { body: 'none', close: false }))
  }

  /** Gives whether the connection can be kept behind this response. */
  head(head: ResponseHead, { keep }: { readonly keep: boolean }): boolean {
    const body = framingOf(head, this.#request)
    const kept = keep && body !== 'close'
    const upgrade = head.status === 101
    this.#framing = upgrade ? 'upgraded' : body
    this.#writer.text(responseHeadText(head, { body, close: !kept && !upgrade }))
    return kept && !upgrade
  }

  /** Gives how many bytes were written of it. */
  body(chunk: Buffer): number {
    // A chunk of no bytes would be the end of the body.
    if (this.#framing === 'none' || chunk.length === 0) return 0
    if (this.#framing === 'chunked') {
      this.#writer.text(`${chunk.length.toString(16)}\r\n`)
      this.#writer.bytes(chunk)
      this.#writer.text('\r\n')
    } else this.#writer.bytes(chunk)
    return chunk.length
  }

  end(trailers: Headers): void {
    if (this.#framing === 'chunked') this.#writer.text(`0\r\n${headerLines(trailers)}\r\n`)
  }

  flush(): boolean {
    return this.#writer.flush()
  }
}

function framingOf(
  { status, body }: ResponseHead,
  request: Http1Request | undefined,
): ResponseFraming['body'] {
  if (status < 200 || status === 204) return 'none'
  const silent = request?.method === 'HEAD' || status === 304
  if (body !== 'streamed') return body === 'none' && silent ? 'none' : 'length'
  if (silent) return 'none'
  return request?.minor === 0 ? 'close' : 'chunked'
}

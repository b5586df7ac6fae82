import type { Headers, Requester, Responder } from './exchange.js'
import type { Failure } from './failures.js'

/**
 * A request on its way to a peer that is not connected yet. It holds what little the caller may send
 * meanwhile, hands it on when there is a connection, and is then only a name for it.
 */
export class PendingRequest implements Responder {
  readonly #requester: Requester
  readonly #onAbort: () => void
  readonly #held: Buffer[] = []
  #trailers: Headers | undefined
  #responder: Responder | undefined
  #over = false

  constructor(requester: Requester, onAbort: () => void) {
    this.#requester = requester
    this.#onAbort = onAbort
  }

  /** Whether there is still somebody who wants an answer. */
  get wanted(): boolean {
    return !this.#over
  }

  /** There is a connection, and the head of the request is on it. */
  connected(responder: Responder): void {
    this.#responder = responder
    for (const chunk of this.#held) responder.write(chunk)
    this.#held.length = 0
    if (this.#trailers) responder.finish(this.#trailers)
    if (responder.flush()) this.#requester.resume()
  }

  failed(failure: Failure): void {
    if (this.#over) return
    this.#over = true
    this.#held.length = 0
    this.#requester.fail(failure)
  }

  write(chunk: Buffer): void {
    if (this.#responder) this.#responder.write(chunk)
    // The bytes are lent.
    else if (!this.#over) this.#held.push(Buffer.from(chunk))
  }

  finish(trailers: Headers): void {
    if (this.#responder) this.#responder.finish(trailers)
    else this.#trailers = trailers
  }

  /** False until there is a connection: what the caller has sent so far is enough to hold. */
  flush(): boolean {
    return this.#responder?.flush() ?? false
  }

  resume(): void {
    this.#responder?.resume()
  }

  abort(): void {
    this.#over = true
    this.#held.length = 0
    if (this.#responder) this.#responder.abort()
    else this.#onAbort()
  }
}

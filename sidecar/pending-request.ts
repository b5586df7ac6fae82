import {
  type ForwardedHead,
  type Headers,
  NO_TRAILERS,
  type Requester,
  type Responder,
} from './exchange.js'
import type { Failure } from './failures.js'

/** What of a body is taken while there is no connection yet. */
const ENOUGH = 64 * 1024

/** A request that waits for a connection. It holds a little of the body and then asks the caller to wait. */
export class PendingRequest implements Responder {
  readonly #head: ForwardedHead
  readonly #requester: Requester
  #taker: Responder | undefined
  #held: Buffer[] = []
  #length = 0
  #trailers: Headers | undefined
  #aborted = false

  constructor(head: ForwardedHead, requester: Requester) {
    this.#head = head
    this.#requester = requester
  }

  /** There is a connection now, or it has become clear that there will be none. */
  settle(send: (head: ForwardedHead, requester: Requester) => Responder | Failure): void {
    if (this.#aborted) return
    const started = send(this.#head, this.#requester)
    if ('code' in started) {
      this.#aborted = true
      this.#requester.fail(started)
      this.#requester.flush()
      return
    }
    this.#taker = started
    for (const chunk of this.#held) started.write(chunk)
    if (this.#trailers) started.finish(this.#trailers)
    this.#held = []
    if (started.flush()) this.#requester.resume()
  }

  write(chunk: Buffer): void {
    if (this.#taker) {
      this.#taker.write(chunk)
      return
    }
    this.#held.push(Buffer.from(chunk))
    this.#length += chunk.length
  }

  finish(trailers: Headers = NO_TRAILERS): void {
    if (this.#taker) this.#taker.finish(trailers)
    else this.#trailers = trailers
  }

  flush(): boolean {
    return this.#taker ? this.#taker.flush() : this.#length < ENOUGH
  }

  resume(): void {
    this.#taker?.resume()
  }

  abort(): void {
    this.#aborted = true
    this.#held = []
    this.#taker?.abort()
  }
}

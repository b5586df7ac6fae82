import type { Writable } from 'node:stream'

/** What may wait in a socket before the other side is asked to stop. */
const FULL = 256 * 1024

/**
 * Gathers the pieces that one batch of reading brings forth and puts them on the wire as one: a write
 * costs more than a copy, and over TLS each would be a record of its own. Pieces are copied by `flush`.
 */
export class BatchWriter {
  readonly #socket: Writable
  #pieces: (string | Buffer)[] = []
  #length = 0

  constructor(socket: Writable) {
    this.#socket = socket
  }

  /** One byte per character: nothing above U+00FF. */
  text(text: string): void {
    this.#pieces.push(text)
    this.#length += text.length
  }

  bytes(bytes: Buffer): void {
    this.#pieces.push(bytes)
    this.#length += bytes.length
  }

  /** False when so much waits that no more should come until the socket has drained. */
  flush(): boolean {
    const pieces = this.#pieces
    if (pieces.length > 0) {
      this.#write(pieces)
      this.drop()
    }
    return this.#socket.writableLength < FULL
  }

  drop(): void {
    this.#pieces = []
    this.#length = 0
  }

  #write(pieces: readonly (string | Buffer)[]): void {
    const [first] = pieces
    if (pieces.length === 1 && typeof first === 'string') {
      this.#socket.write(first, 'latin1')
      return
    }
    const out = Buffer.allocUnsafe(this.#length)
    let at = 0
    for (const piece of pieces) {
      if (typeof piece === 'string') at += out.write(piece, at, 'latin1')
      else {
        out.set(piece, at)
        at += piece.length
      }
    }
    this.#socket.write(out)
  }
}

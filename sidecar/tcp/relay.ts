import type { Socket } from 'node:net'
import type { Deadlines, Timed } from '../deadlines.js'
import type { CloseReason } from '../exchange.js'
import type { Limits } from '../limits.js'

export interface RelayOptions {
  /** Who has connected. Paused, or nothing of it read yet. */
  readonly near: Socket
  /** Who is connected to; may still be connecting. */
  readonly far: Socket
  readonly limits: Limits
  readonly deadlines: Deadlines
  readonly onBytes: (fromNear: number, fromFar: number) => void
  /** Called once, when both are closed or will be. */
  readonly onEnd: (how: CloseReason) => void
}

/** Passes bytes both ways. Each direction ends by itself; when one has ended, the other gets time to finish. */
export class TcpRelay implements Timed {
  deadline: number
  readonly #options: RelayOptions
  #halfClosed = false
  #over = false

  constructor(options: RelayOptions) {
    const { near, far, limits, deadlines } = options
    this.#options = options
    this.deadline = deadlines.now + (far.connecting ? limits.time.connect : limits.time.idle)
    deadlines.add(this)
    near
      .on('data', (chunk: Buffer) => this.#fromNear(chunk))
      .on('drain', () => far.resume())
      .on('end', () => this.#onEnd(far))
      .on('error', () => this.cut('caller'))
      .on('close', () => this.#onClose('caller'))
    far
      .on('connect', () => this.#touch())
      .on('drain', () => near.resume())
      .on('end', () => this.#onEnd(near))
      .on('error', () => this.cut('upstream'))
      .on('close', () => this.#onClose('upstream'))
  }

  /** Takes what the far side has sent, to keep. */
  fromFar(bytes: Buffer): void {
    const { near, far, onBytes } = this.#options
    onBytes(0, bytes.length)
    this.#touch()
    if (!near.write(bytes)) far.pause()
  }

  cut(reason: CloseReason): void {
    this.#finish(reason)
    this.#options.near.destroy()
    this.#options.far.destroy()
  }

  onDeadline(): void {
    this.cut(this.#options.far.connecting ? 'upstream' : 'idle')
  }

  #fromNear(chunk: Buffer): void {
    const { near, far, onBytes } = this.#options
    onBytes(chunk.length, 0)
    this.#touch()
    if (!far.write(chunk)) near.pause()
  }

  #onEnd(other: Socket): void {
    this.#halfClosed = true
    this.#touch()
    other.end()
  }

  /** Both ends are in when the first of them closes; after a fault the other must go too. */
  #onClose(side: CloseReason): void {
    const { near, far } = this.#options
    if (near.readableEnded && far.readableEnded) this.#finish('complete')
    else this.cut(side)
  }

  #touch(): void {
    const { far, deadlines, limits } = this.#options
    if (far.connecting) return
    const { halfClosed, idle } = limits.time
    this.deadline = deadlines.now + (this.#halfClosed ? halfClosed : idle)
  }

  #finish(how: CloseReason): void {
    if (this.#over) return
    this.#over = true
    this.#options.deadlines.remove(this)
    this.#options.onEnd(how)
  }
}

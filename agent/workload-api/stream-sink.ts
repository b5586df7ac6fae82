import type { Reply } from './replies.js'

/** The sending side of one open stream. */
export interface StreamSink {
  /** Resolves when the bytes have left this process, or the stream is over. */
  write(bytes: Buffer): Promise<void>
  end(reply: Reply): void
  /** Aborts when the stream is over, whoever ended it. */
  readonly over: AbortSignal
}

/** As much of a gRPC call as is needed to send on it. */
export interface SendingCall {
  readonly cancelled: boolean
  write(bytes: Buffer, done: () => void): boolean
  emit(event: 'error', reply: Reply): boolean
  on(event: 'cancelled' | 'close' | 'finish', listener: () => void): unknown
}

/** One for all, since making a stack trace for each stream is not free. */
const OVER = new Error('stream is over')

export function streamSink(call: SendingCall): StreamSink {
  const over = new AbortController()
  let release = () => {}
  const finish = () => {
    over.abort(OVER)
    release()
  }
  if (call.cancelled) finish()
  for (const event of ['cancelled', 'close', 'finish'] as const) call.on(event, finish)
  return {
    over: over.signal,
    write: (bytes) =>
      new Promise((resolve) => {
        if (over.signal.aborted) return resolve()
        // Nothing calls back for a write to a stream that is cancelled meanwhile.
        release = resolve
        call.write(bytes, resolve)
      }),
    end(reply) {
      if (over.signal.aborted) return
      // gRPC takes the status of a stream as an error event; there is no other way to give one.
      call.emit('error', reply)
      finish()
    },
  }
}

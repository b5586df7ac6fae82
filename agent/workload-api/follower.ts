import type { Clock } from '../../platform/clock.js'
import type { Log } from '../../platform/log.js'
import type { X509Svid } from '../../spiffe/index.js'
import { type AttestedCaller, sameProgram } from '../attestation/caller.js'
import { AgentError } from '../errors.js'
import { whoOf } from './calls.js'
import type { Connection } from './connections.js'
import type { Message } from './messages.js'
import { reasonOf, replyFor } from './replies.js'
import type { StreamSink } from './stream-sink.js'

/** What a caller is to hold at one moment. */
export interface View {
  /** Undefined while there is nothing to send. */
  readonly message: Message | undefined
  /** What would make the message complete, and can be waited for. */
  readonly missing: readonly ((signal: AbortSignal) => Promise<X509Svid>)[]
}

export interface FollowerOptions {
  readonly rpc: string
  readonly connection: Connection
  /** Throws when the caller is to hold nothing. Depends on the caller's selectors alone, and on time. */
  readonly view: (caller: AttestedCaller) => View
  readonly sink: StreamSink
  readonly clock: Clock
  readonly log: Log
  /** How long a message may wait for what is missing in it. */
  readonly patienceMs: number
}

/** One open stream. It sends the whole state, and only when that differs from what it sent before. */
export interface Follower {
  /** Attests the caller anew and sends what it is to hold now, or ends the stream. Never throws. */
  deliver(): Promise<void>
  /** How what the caller is to hold compares with what it was sent, judged by its last attestation. */
  standing(): 'current' | 'stale' | 'refused'
  end(error: unknown): void
  /** Aborts when the stream is over. */
  readonly over: AbortSignal
  /** When a change that concerns many is due here, in milliseconds of the monotonic clock. */
  dueAt: number | undefined
}

export function follower(options: FollowerOptions): Follower {
  const { rpc, connection, view, sink, log } = options
  const who = { rpc, ...whoOf(connection) }
  let first: AttestedCaller | undefined
  let last: AttestedCaller | undefined
  let sent: { readonly key: string; readonly bytes: Buffer } | undefined
  let waiting: AbortController | undefined
  let delivering = false
  let again = false

  const attest = async () => {
    const caller = await connection.caller.attest(sink.over)
    first ??= caller
    if (!sameProgram(first.facts, caller.facts)) {
      throw new AgentError('CS_CALLER_CHANGED', 'process runs another program now')
    }
    last = caller
    return caller
  }
  const current = async () => {
    using patience = patienceOf(options)
    for (;;) {
      const seen = view(await attest())
      const incomplete = seen.missing.length > 0 && (sent === undefined || !seen.message)
      if (!incomplete || patience.lost()) return seen.message
      waiting = new AbortController()
      await patience.wait(seen.missing, waiting.signal)
      waiting = undefined
    }
  }
  const deliverOnce = async () => {
    const message = await current()
    if (sink.over.aborted) return
    if (!message) throw new AgentError('CS_SENTRY_UNAVAILABLE', 'no SVID of the caller is in hand')
    if (message.key === sent?.key) return
    const bytes = message.encode()
    const same = sent?.bytes.equals(bytes) ?? false
    const opened = sent === undefined
    sent = { key: message.key, bytes }
    if (same) return
    if (opened) log.info({ ...who, bytes: bytes.length }, 'stream opened')
    else log.debug({ ...who, bytes: bytes.length }, 'update sent')
    await sink.write(bytes)
  }
  const end = (error: unknown) => {
    if (sink.over.aborted) return
    log.info({ ...who, ...reasonOf(error) }, sent ? 'stream ended' : 'call refused')
    sink.end(replyFor(error))
  }

  return {
    over: sink.over,
    dueAt: undefined,
    end,
    async deliver() {
      again = true
      waiting?.abort(new Error('state has changed'))
      if (delivering) return
      delivering = true
      try {
        // A slow reader gets the latest state when it has taken the last, and nothing in between.
        while (again && !sink.over.aborted) {
          again = false
          await deliverOnce()
        }
      } catch (error) {
        end(error)
      } finally {
        delivering = false
      }
    },
    standing() {
      if (!last || !sent) return 'stale'
      try {
        const { message } = view(last)
        if (!message) return 'refused'
        return message.key === sent.key ? 'current' : 'stale'
      } catch {
        return 'refused'
      }
    },
  }
}

interface Patience extends Disposable {
  /** Waits until all is there, something has failed, time is up or there was a change. */
  wait(missing: View['missing'], changed: AbortSignal): Promise<void>
  /** Whether what is there has to do now. */
  lost(): boolean
}

function patienceOf({ clock, sink, patienceMs }: FollowerOptions): Patience {
  const done = new AbortController()
  const signal = AbortSignal.any([sink.over, done.signal])
  let lost = false
  let timer: Promise<void> | undefined
  return {
    lost: () => lost,
    async wait(missing, changed) {
      timer ??= clock.sleep(patienceMs, signal).catch(() => undefined)
      const heard = AbortSignal.any([signal, changed])
      const answers = Promise.allSettled(missing.map((ask) => ask(heard)))
      const outcome = await Promise.race([
        answers.then(() => (changed.aborted ? 'changed' : 'answered')),
        timer.then(() => 'late'),
      ])
      lost = outcome !== 'changed'
    },
    [Symbol.dispose]: () => done.abort(),
  }
}

import type { Clock } from '../../platform/clock.js'
import type { LogFields } from '../../platform/log.js'
import type { AttestedCaller } from '../attestation/caller.js'
import { AgentError } from '../errors.js'
import type { Connection } from './connections.js'
import type { Journal } from './journal.js'
import type { Message } from './messages.js'
import { patience, type Wanted } from './patience.js'
import { replyFor } from './replies.js'
import type { StreamSink } from './stream-sink.js'

/** What a caller is to hold at one moment. */
export interface View {
  /** Undefined while there is nothing to send. */
  readonly message: Message | undefined
  /** What would make the message complete, and can be waited for. */
  readonly missing: readonly Wanted[]
  /** What the log says is granted by it. */
  readonly granted: () => LogFields
}

export interface FollowerOptions {
  readonly rpc: string
  readonly connection: Connection
  /** Throws when the caller is to hold nothing. Depends on the caller's selectors alone, and on time. */
  readonly view: (caller: AttestedCaller) => View
  readonly sink: StreamSink
  readonly clock: Clock
  readonly journal: Journal
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

const CHANGED = new Error('state has changed')

export function follower(options: FollowerOptions): Follower {
  const { rpc, connection, view, sink, journal } = options
  /** As the caller was when it was last looked at. */
  let last: AttestedCaller | undefined
  let sent: { readonly key: string; readonly bytes: Buffer } | undefined
  let waiting: AbortController | undefined
  let delivering = false
  let again = false

  const attest = async () => {
    last = await connection.caller.attest(sink.over)
    return last
  }
  const isComplete = ({ message, missing }: View) =>
    missing.length === 0 || (message !== undefined && sent !== undefined)
  const completed = async () => {
    using wait = patience({ ...options, over: sink.over })
    for (;;) {
      const seen = view(await attest())
      if (isComplete(seen) || wait.lost()) return seen
      waiting = new AbortController()
      await wait.wait(seen.missing, waiting.signal)
      waiting = undefined
    }
  }
  const current = async () => {
    const seen = view(await attest())
    return isComplete(seen) ? seen : completed()
  }
  const deliverOnce = async () => {
    const { message, granted } = await current()
    if (sink.over.aborted) return
    if (!message) throw new AgentError('CS_SENTRY_UNAVAILABLE', 'no SVID of the caller is in hand')
    if (message.key === sent?.key) return
    const bytes = message.encode()
    const same = sent?.bytes.equals(bytes) ?? false
    const opened = sent === undefined
    sent = { key: message.key, bytes }
    if (same) return
    if (opened) journal.granted({ rpc, connection }, granted(), 'stream opened')
    else journal.updated({ rpc, connection }, granted())
    await sink.write(bytes)
  }
  const end = (error: unknown) => {
    if (sink.over.aborted) return
    journal.refused({ rpc, connection }, error, sent ? 'stream ended' : 'call refused')
    sink.end(replyFor(error))
  }

  return {
    over: sink.over,
    dueAt: undefined,
    end,
    async deliver() {
      again = true
      waiting?.abort(CHANGED)
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

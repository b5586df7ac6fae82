import { status } from '@grpc/grpc-js'
import { SpiffeError } from '../errors.js'
import type { Runtime } from '../runtime.js'
import type { EndpointAddress } from './address.js'
import { isCallFailure, messagesOf, type OpenStream } from './calls.js'
import { endpointError, isConnectionLoss } from './endpoint-error.js'

/** What follows a stream of the Workload API. Each value is the whole state and replaces the one before. */
export interface WatchListener<Value> {
  /** Called when something changed, and only then. */
  onUpdate(value: Value): void
  /** The endpoint grants nothing any more: what it gave before must no longer be used. */
  onWithdrawn(error: SpiffeError): void
  /** Everything that goes wrong. The watch tries again; what was given stays in force. */
  onError?(error: SpiffeError): void
}

/** The shape of fastify's and pino's logger, as far as this library needs it. */
export interface ClientLog {
  info(fields: Readonly<Record<string, unknown>>, message: string): void
  warn(fields: Readonly<Record<string, unknown>>, message: string): void
}

export interface Watched<Message, Value> {
  readonly method: string
  readonly address: EndpointAddress
  readonly runtime: Runtime
  readonly log: ClientLog
  open(): OpenStream<Message>
  /** Returns `previous` itself when nothing changed. Throws `CS_RESPONSE_INVALID`. */
  read(message: Message, previous: Value | undefined): Value
}

const FIRST_WAIT_MS = 250
const LONGEST_WAIT_MS = 10_000

/** A stream that ends sooner and brought nothing new is not re-opened at once, or a sick endpoint would be hammered. */
const BRIEF_STREAM_MS = 1000

type Ending =
  /** Without an error: the endpoint closes a stream when it likes (Workload API §4.2). */
  | { readonly kind: 'ended' }
  /** The connection went away under it. */
  | { readonly kind: 'lost'; readonly error: SpiffeError }
  | { readonly kind: 'failed'; readonly error: SpiffeError }

/**
 * Follows one stream until `signal` aborts and opens it again whenever it ends (Workload API §4.2,
 * Appendix A). Rejects with `CS_ENDPOINT_REFUSED` if repeating the request cannot help.
 */
export async function watchStream<Message, Value>(
  watched: Watched<Message, Value>,
  listener: WatchListener<Value>,
  signal: AbortSignal,
): Promise<void> {
  const { clock, random } = watched.runtime
  const keeper = keepLastGood(watched, listener)
  const waits = growingWaits(random)

  while (!signal.aborted) {
    const opened = { at: clock.now().getTime(), changes: keeper.changes() }
    const ending = await followOnce(watched, keeper, signal)
    if (signal.aborted) return

    const lasted = clock.now().getTime() - opened.at
    const progressed = keeper.changes() > opened.changes || lasted >= BRIEF_STREAM_MS
    if (progressed) waits.reset()
    const retryInMs = progressed && ending.kind !== 'failed' ? 0 : waits.nextMs()
    report(watched, ending, retryInMs)
    if (ending.kind !== 'ended') settle(ending.error, keeper, listener)
    if (retryInMs > 0) await clock.sleep(retryInMs, signal).catch(() => undefined)
  }
}

async function followOnce<Message, Value>(
  watched: Watched<Message, Value>,
  keeper: Keeper<Message>,
  signal: AbortSignal,
): Promise<Ending> {
  const { stream, drop } = watched.open()
  try {
    for await (const message of messagesOf(stream, signal)) keeper.take(message)
    return { kind: 'ended' }
  } catch (error) {
    if (error instanceof SpiffeError && error.code === 'CS_RESPONSE_INVALID') {
      return { kind: 'failed', error }
    }
    if (!isCallFailure(error)) throw error
    if (error.code === status.UNAVAILABLE) drop()
    const kind = isConnectionLoss(error) ? 'lost' : 'failed'
    return { kind, error: endpointError(error, watched.address) }
  }
}

function settle<Message, Value>(
  error: SpiffeError,
  keeper: Keeper<Message>,
  listener: WatchListener<Value>,
): void {
  if (error.code === 'CS_NO_IDENTITY') keeper.withdraw(error)
  listener.onError?.(error)
  if (error.code === 'CS_ENDPOINT_REFUSED') throw error
}

interface Keeper<Message> {
  take(message: Message): void
  withdraw(error: SpiffeError): void
  /** How often the listener was told of a new value. */
  changes(): number
}

/** Holds the last good value; a message that cannot be read leaves it as it was. */
function keepLastGood<Message, Value>(
  { read }: Watched<Message, Value>,
  listener: WatchListener<Value>,
): Keeper<Message> {
  let held: Value | undefined
  let changes = 0
  return {
    changes: () => changes,
    take(message) {
      const value = read(message, held)
      if (value === held) return
      held = value
      changes += 1
      listener.onUpdate(value)
    },
    withdraw(error) {
      if (held === undefined) return
      held = undefined
      listener.onWithdrawn(error)
    },
  }
}

/** Each wait lies in the upper half of a ceiling that doubles, so that many clients do not return as one. */
function growingWaits(random: Runtime['random']) {
  let ceiling = FIRST_WAIT_MS
  return {
    nextMs() {
      const wait = ceiling / 2 + (random.fraction() * ceiling) / 2
      ceiling = Math.min(ceiling * 2, LONGEST_WAIT_MS)
      return wait
    },
    reset() {
      ceiling = FIRST_WAIT_MS
    },
  }
}

function report<Message, Value>(
  { log, method }: Watched<Message, Value>,
  ending: Ending,
  retryInMs: number,
): void {
  if (ending.kind === 'ended') {
    log.info({ method, retryInMs }, 'workload api stream ended')
    return
  }
  const { code, message } = ending.error
  if (code === 'CS_ENDPOINT_REFUSED') {
    log.warn({ method, code, reason: message }, 'workload api stream refused')
    return
  }
  log.warn({ method, code, reason: message, retryInMs }, 'workload api stream failed')
}

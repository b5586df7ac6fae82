import type { Socket } from 'node:net'
import type { Clock } from '../../platform/clock.js'
import type { Log } from '../../platform/log.js'
import type { Attestation, Caller } from '../attestation/caller.js'
import { AgentError } from '../errors.js'
import type { Selector } from '../identities/identities.js'
import type { Journal } from './journal.js'
import type { Limits } from './limits.js'

/** An open connection to a local socket and the process that opened it. */
export interface Connection {
  readonly caller: Caller
  /** Of the socket it came in on. */
  readonly path: string
  readonly calls: CallCount
  /** Aborts when the connection closes. */
  readonly closed: AbortSignal
}

/** How many calls are open. */
export interface CallCount {
  opened(): void
  closed(): void
  /** On all connections of the same user. */
  ofUser(): number
}

/** All open connections. A call finds its own by the address that gRPC shows as its peer. */
export interface Connections {
  /** Identifies the caller and gives the connection its address; closes one that is over a limit. */
  accept(socket: Socket, from: AcceptedOn): boolean
  /** Undefined when the connection is closed. */
  find(call: { getPeer(): string }): Connection | undefined
  /** Throws `CS_CALLER_NOT_ATTESTED` when the connection is closed. */
  of(call: { getPeer(): string }): Connection
  /** Resolves when none is open. */
  empty(): Promise<void>
  /** How many are open. */
  count(): number
  closeAll(): void
}

export interface AcceptedOn {
  readonly path: string
  readonly selectors: readonly Selector[]
  /** Who may connect at all; everybody unless given. */
  readonly admits?: (uid: number) => boolean
}

export interface ConnectionsOptions {
  readonly attestation: Attestation
  readonly limits: Limits
  readonly clock: Clock
  readonly journal: Journal
  readonly log: Log
}

/** The preface of HTTP/2 (24 bytes) and the settings that must follow it (9 at least). */
const GREETING_BYTES = 33

interface OpenConnection extends Connection {
  readonly socket: Socket
}

const CLOSED = new Error('connection is closed')

export function connectionTable(options: ConnectionsOptions): Connections {
  const { limits, journal, log } = options
  const open = new Map<string, OpenConnection>()
  const connectionsOf = counts()
  const callsOf = counts()
  const warnOnce = weakHoldWarning(log)
  let count = 0
  let onEmpty: (() => void)[] = []

  const track = (address: string, connection: OpenConnection) => {
    const { caller, socket } = connection
    open.set(address, connection)
    connectionsOf.add(caller.uid, 1)
    socket.once('close', () => {
      open.delete(address)
      connectionsOf.add(caller.uid, -1)
      caller.close()
      if (open.size > 0) return
      for (const resolve of onEmpty) resolve()
      onEmpty = []
    })
  }
  const callsBy = (uid: number): CallCount => ({
    opened: () => callsOf.add(uid, 1),
    closed: () => callsOf.add(uid, -1),
    ofUser: () => callsOf.get(uid),
  })
  const refusal = ({ uid }: Caller, { admits }: AcceptedOn) => {
    if (admits && !admits(uid)) return new AgentError('CS_NOT_THE_CALLER', 'user may not connect')
    if (open.size >= limits.connections) return overLimit('too many connections are open')
    const ofUser = connectionsOf.get(uid)
    return ofUser >= limits.connectionsPerUser ? overLimit('user has too many open') : undefined
  }
  const find = (call: { getPeer(): string }) => open.get(call.getPeer())
  return {
    accept(socket, from) {
      const caller = callerOn(socket, from, options)
      const refused = refusal(caller, from)
      if (refused) {
        journal.refused({ connection: { caller, path: from.path } }, refused, 'connection refused')
        caller.close()
        socket.destroy()
        return false
      }
      warnOnce(caller)
      count += 1
      const address = `connection-${count}`
      // gRPC shows a call this address and nothing else of the connection it came in on.
      Object.defineProperty(socket, 'remoteAddress', { value: address })
      const closed = closingOf(socket)
      track(address, { caller, path: from.path, calls: callsBy(caller.uid), closed, socket })
      void closeUnlessGreeted(socket, closed, options)
      return true
    },
    find,
    of(call) {
      const connection = find(call)
      if (!connection) throw new AgentError('CS_CALLER_NOT_ATTESTED', 'connection is closed')
      return connection
    },
    empty: () =>
      open.size === 0
        ? Promise.resolve()
        : new Promise((resolve) => {
            onEmpty.push(resolve)
          }),
    count: () => open.size,
    closeAll() {
      for (const { socket } of open.values()) socket.destroy()
    },
  }
}

function closingOf(socket: Socket): AbortSignal {
  const closing = new AbortController()
  socket.once('close', () => closing.abort(CLOSED))
  return closing.signal
}

/** Says once that this kernel makes the weaker promise of the two. */
function weakHoldWarning(log: Log): (caller: Caller) => void {
  let warned = false
  return ({ heldBy, pid }) => {
    if (warned || heldBy !== 'pid' || pid === 0) return
    warned = true
    log.warn({}, 'kernel has no SO_PEERPIDFD: callers are held by pid')
  }
}

interface Counts {
  add(uid: number, change: 1 | -1): void
  get(uid: number): number
}

function counts(): Counts {
  const held = new Map<number, number>()
  const get = (uid: number) => held.get(uid) ?? 0
  return {
    get,
    add(uid, change) {
      const next = get(uid) + change
      if (next === 0) held.delete(uid)
      else held.set(uid, next)
    },
  }
}

function callerOn(
  socket: Socket,
  { path, selectors }: AcceptedOn,
  { attestation, journal }: ConnectionsOptions,
): Caller {
  try {
    return attestation.callerOn(socket, selectors)
  } catch (error) {
    const caller = nobody(error)
    journal.refused({ connection: { caller, path } }, error, 'caller unknown')
    return caller
  }
}

/** Stays connected, so that it is told in the words of the standard that it gets nothing. */
function nobody(error: unknown): Caller {
  return {
    pid: 0,
    uid: -1,
    heldBy: 'pid',
    async attest() {
      throw error
    },
    close: () => undefined,
  }
}

async function closeUnlessGreeted(
  socket: Socket,
  closed: AbortSignal,
  { clock, limits, log }: ConnectionsOptions,
): Promise<void> {
  try {
    await clock.sleep(limits.greetingMs, closed)
  } catch {
    return
  }
  if (socket.bytesRead >= GREETING_BYTES) return
  log.info({ socket: socket.remoteAddress }, 'connection closed: no greeting')
  socket.destroy()
}

const overLimit = (message: string) => new AgentError('CS_CONNECTION_LIMIT', message)

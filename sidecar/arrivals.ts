import type { Socket } from 'node:net'
import { connectRate } from './connect-rate.js'
import type { Timed } from './deadlines.js'
import type { ProxyContext } from './proxy-context.js'

/** Connections between being accepted and the end of their TLS handshake: at no time are there too many. */
export interface Arrivals {
  /** A connection was accepted. Nothing of it has been read. */
  accepted(raw: Socket): void
  /** Its handshake is over: its socket below TLS, or undefined when it is none of those waited for. */
  secured(socket: Socket): Socket | undefined
  /** A handshake came to nothing. */
  failed(error: NodeJS.ErrnoException): void
  /** There were too many connections to accept another. */
  dropped(): void
  destroy(): void
}

interface Arrival extends Timed {
  readonly key: string
  readonly raw: Socket
  readonly at: bigint
}

export function arrivals({
  tunnel,
  context,
}: {
  readonly tunnel: string
  readonly context: ProxyContext
}): Arrivals {
  const { metrics, clock, limits, deadlines } = context
  const waiting = new Map<string, Arrival>()
  const rate = connectRate(limits.connection, deadlines)
  const handshakes = metrics.handshakeSeconds.with({ tunnel })
  /** Closed by us for being slow; what Node reports of them looks like a reset by the other side. */
  let late = 0

  const refuse = (reason: string) => metrics.handshakeFailures.inc({ tunnel, reason })
  const forget = (arrival: Arrival) => {
    deadlines.remove(arrival)
    if (waiting.get(arrival.key) === arrival) waiting.delete(arrival.key)
  }
  const wait = (raw: Socket) => {
    const arrival: Arrival = {
      key: keyOf(raw),
      raw,
      at: clock.hrtime(),
      deadline: deadlines.now + limits.time.handshake,
      onDeadline() {
        late += 1
        raw.destroy()
      },
    }
    waiting.set(arrival.key, arrival)
    deadlines.add(arrival)
    raw.once('close', () => forget(arrival))
  }
  return {
    accepted(raw) {
      const { remoteAddress } = raw
      if (remoteAddress === undefined || rate.allows(remoteAddress)) {
        wait(raw)
        return
      }
      refuse('connect-rate')
      raw.destroy()
    },
    secured(socket) {
      const arrival = waiting.get(keyOf(socket))
      if (!arrival) return undefined
      forget(arrival)
      handshakes.observe(Number(clock.hrtime() - arrival.at) / 1e9)
      return arrival.raw
    },
    failed(error) {
      const reason = reasonOf(error)
      const isLate = reason === 'closed' && late > 0
      if (isLate) late -= 1
      refuse(isLate ? 'timeout' : reason)
    },
    dropped: () => refuse('too-many-connections'),
    destroy() {
      for (const { raw } of waiting.values()) raw.destroy()
    },
  }
}

const keyOf = ({ remoteAddress, remotePort }: Socket) => `${remoteAddress} ${remotePort}`

/** From a closed list, because it becomes a label. */
function reasonOf({ code }: NodeJS.ErrnoException): string {
  if (code === 'ERR_TLS_HANDSHAKE_TIMEOUT') return 'timeout'
  return code === 'ECONNRESET' ? 'closed' : 'tls'
}

import type { Socket } from 'node:net'
import { addressKey } from './rate-limit.js'

/** How many may be in at the same time. */
export interface PlaceLimits {
  readonly inAll: number
  readonly perAddress: number
}

/** Counts those who are in, so that nobody can take all places, nor one address most of them. */
export interface Places {
  /** Returns the way to leave, once; undefined when there is no place. */
  enter(address: string): (() => void) | undefined
}

export function places({ inAll, perAddress }: PlaceLimits): Places {
  const taken = new Map<string, number>()
  let total = 0
  return {
    enter(address) {
      const key = addressKey(address)
      const held = taken.get(key) ?? 0
      if (total >= inAll || held >= perAddress) return undefined
      total += 1
      taken.set(key, held + 1)
      let left = false
      return () => {
        if (left) return
        left = true
        total -= 1
        const rest = (taken.get(key) ?? 1) - 1
        if (rest > 0) taken.set(key, rest)
        else taken.delete(key)
      }
    },
  }
}

/** Places of connections whose handshake is not over. */
export function handshakePlaces(limits: PlaceLimits) {
  const all = places(limits)
  const underWay = new Map<string, () => void>()
  return {
    /** False when the address has as many under way as it may. */
    begin(socket: Socket): boolean {
      const leave = all.enter(socket.remoteAddress ?? '')
      if (!leave) return false
      const peer = peerOf(socket)
      underWay.set(peer, leave)
      socket.on('close', () => {
        leave()
        if (underWay.get(peer) === leave) underWay.delete(peer)
      })
      return true
    },
    /** To be told of the secure socket: it does not say what it is made of, but both have the same peer. */
    over: (socket: Socket) => underWay.get(peerOf(socket))?.(),
  }
}

function peerOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`
}

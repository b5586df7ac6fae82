import type { Certificate, SpiffeId } from '../../spiffe/index.js'

/** Who is at the other end of a connection. */
export type Caller =
  /** Whoever can open the admin socket. */
  | { readonly kind: 'local' }
  /** Came over the network and presented no certificate. */
  | { readonly kind: 'anonymous'; readonly address: string }
  | IdentifiedCaller

/** Presented a certificate that leads to the bundle of its trust domain. */
export interface IdentifiedCaller {
  readonly kind: 'identified'
  readonly id: SpiffeId
  readonly leaf: Certificate
  /** When the first certificate of its chain ends, in milliseconds since 1970; a connection may outlive it. */
  readonly expiresAt: number
  readonly address: string
}

/** How the caller stands in records: never with an address where there is an identity. */
export function nameOf(caller: Caller): string {
  switch (caller.kind) {
    case 'local':
      return 'local'
    case 'anonymous':
      return 'anonymous'
    case 'identified':
      return caller.id
  }
}

/**
 * Which caller is behind which connection. grpc-js tells a handler nothing of a connection but its
 * remote address, so the address that it sees is a name out of this book.
 */
export interface CallerBook {
  enter(caller: Caller): string
  leave(connection: string): void
  /** Undefined for a connection that has just been closed. */
  find(connection: string): Caller | undefined
}

export function callerBook(): CallerBook {
  const callers = new Map<string, Caller>()
  let last = 0
  return {
    enter(caller) {
      last += 1
      const connection = `connection-${last}`
      callers.set(connection, caller)
      return connection
    },
    leave: (connection) => void callers.delete(connection),
    find: (connection) => callers.get(connection),
  }
}

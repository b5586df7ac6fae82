import { SpiffeError } from './errors.js'
import { isMemberOf, type SpiffeId, type TrustDomain } from './id.js'

/** Judges whom a verified peer is. Throws `CS_PEER_NOT_AUTHORIZED` for one that is not expected. */
export type Authorize = (id: SpiffeId) => void

/** The usual expectations. There is none by default: whoever opens a connection says whom they expect. */
export const authorize = {
  /** Any workload of any trust domain whose bundle is held. */
  any(): Authorize {
    return () => {}
  },

  id(expected: SpiffeId): Authorize {
    return (id) => {
      if (id !== expected) throw notAuthorized(id, `expected ${expected}`)
    }
  },

  oneOf(expected: Iterable<SpiffeId>): Authorize {
    const ids = new Set(expected)
    return (id) => {
      if (!ids.has(id)) throw notAuthorized(id, `it is not one of the ${ids.size} expected`)
    }
  },

  memberOf(trustDomain: TrustDomain): Authorize {
    return (id) => {
      if (!isMemberOf(id, trustDomain))
        throw notAuthorized(id, `expected a member of ${trustDomain}`)
    }
  },
} as const

function notAuthorized(id: SpiffeId, why: string): SpiffeError {
  return new SpiffeError('CS_PEER_NOT_AUTHORIZED', `peer is ${id}; ${why}`)
}

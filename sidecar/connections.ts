import type { Clock } from '../platform/clock.js'
import {
  type PeerUsage,
  type PeerVerifier,
  SpiffeError,
  type SpiffeId,
  type TrustDomain,
  trustDomainOf,
  type VerifiedPeer,
} from '../spiffe/index.js'
import type { CloseReason } from './exchange.js'

/** One connection between this proxy and another workload. */
export interface OpenConnection {
  /** Undefined for a caller without a verified identity. */
  readonly peer: VerifiedPeer | undefined
  /** What the peer does: `client` when it has called. */
  readonly usage: PeerUsage
  /** Milliseconds since 1970: when the SVID of either side ends, and the connection with it. */
  readonly expiresAt: number
  /** Whether something is under way on it. */
  readonly busy: boolean
  /** Ends when what is under way is complete, and takes nothing new. */
  drain(): void
  /** The own SVID was renewed: ends at the next opportunity at which no request can be lost. */
  retire(): void
  cut(reason: CloseReason): void
  /** Judges what is under way by the policy that is in force now. */
  judgeAgain(): void
}

/** Every connection that is open, found by who is at the other end. */
export interface OpenConnections {
  add(connection: OpenConnection): void
  remove(connection: OpenConnection): void
  [Symbol.iterator](): Iterator<OpenConnection>
  countOf(id: SpiffeId): number
  byId(id: SpiffeId): ReadonlySet<OpenConnection>
  bySerial(serialNumber: string): ReadonlySet<OpenConnection>
  byTrustDomain(trustDomain: TrustDomain): ReadonlySet<OpenConnection>
  readonly size: number
  readonly perTrustDomain: Readonly<Record<string, number>>
  /** Bundles have changed: those whose peer would not be accepted any more are cut. */
  verifyAgain(verifier: PeerVerifier): void
  /** Cuts those that have outlived an SVID. */
  cutExpired(): void
}

export function openConnections(clock: Clock): OpenConnections {
  const all = new Set<OpenConnection>()
  const ids = index<SpiffeId>()
  const serials = index<string>()
  const trustDomains = index<TrustDomain>()

  return {
    add(connection) {
      all.add(connection)
      if (!connection.peer) return
      const { id, chain } = connection.peer
      ids.add(id, connection)
      serials.add(chain[0].serialNumber, connection)
      trustDomains.add(trustDomainOf(id), connection)
    },
    remove(connection) {
      all.delete(connection)
      if (!connection.peer) return
      const { id, chain } = connection.peer
      ids.remove(id, connection)
      serials.remove(chain[0].serialNumber, connection)
      trustDomains.remove(trustDomainOf(id), connection)
    },
    [Symbol.iterator]: () => all.values(),
    countOf: (id) => ids.get(id).size,
    byId: ids.get,
    bySerial: serials.get,
    byTrustDomain: trustDomains.get,
    get size() {
      return all.size
    },
    get perTrustDomain() {
      return trustDomains.sizes()
    },
    verifyAgain(verifier) {
      const now = clock.now()
      for (const connection of all) {
        const refusal = refusalOf(connection, { verifier, now })
        if (refusal) connection.cut(refusal)
      }
    },
    cutExpired() {
      const now = clock.now().getTime()
      for (const connection of all) if (connection.expiresAt < now) connection.cut('svid-expired')
    },
  }
}

function refusalOf(
  { peer, usage }: OpenConnection,
  { verifier, now }: { readonly verifier: PeerVerifier; readonly now: Date },
): CloseReason | undefined {
  if (!peer) return undefined
  try {
    verifier.verify(
      peer.chain.map(({ der }) => der),
      now,
      usage,
    )
    return undefined
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    return error.code === 'CS_SVID_EXPIRED' ? 'svid-expired' : 'bundle-removed'
  }
}

const NONE: ReadonlySet<OpenConnection> = new Set()

function index<Key extends string>() {
  const sets = new Map<Key, Set<OpenConnection>>()
  return {
    get: (key: Key): ReadonlySet<OpenConnection> => sets.get(key) ?? NONE,
    sizes: () => Object.fromEntries([...sets].map(([key, set]) => [key, set.size])),
    add(key: Key, connection: OpenConnection) {
      const set = sets.get(key)
      if (set) set.add(connection)
      else sets.set(key, new Set([connection]))
    },
    remove(key: Key, connection: OpenConnection) {
      const set = sets.get(key)
      set?.delete(connection)
      if (set?.size === 0) sets.delete(key)
    },
  }
}

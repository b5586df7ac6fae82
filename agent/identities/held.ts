import type { SignedSnapshot } from '../../proto/gen/countersign/policy/v1/policy.js'
import type { TrustBundle, TrustDomain, X509Svid } from '../../spiffe/index.js'
import type { HeldEntry } from './identities.js'

/** A trust bundle and what its owner has given up in it: still believed, no longer to be built on. */
export interface HeldBundle {
  readonly bundle: TrustBundle
  /** Fingerprints. */
  readonly taintedX509: ReadonlySet<string>
  /** Key IDs. */
  readonly taintedJwt: ReadonlySet<string>
}

/** An SVID in hand. Times are milliseconds since 1970. */
export interface HeldSvid {
  readonly svid: X509Svid
  /** PKCS#8. */
  readonly privateKeyDer: Uint8Array
  /** The state of the entry it was issued for. */
  readonly revision: bigint
  readonly createdAt: bigint
  /** Drawn once, when the SVID came, and kept with it. */
  readonly renewAt: number
  /** The earliest end in its chain. */
  readonly expiresAt: number
}

/** All an agent holds for its workloads. Immutable: a change is a new one, put in place by one assignment. */
export interface Held {
  /** Position in the sentry's change log. */
  readonly sequence: bigint
  /** By time of creation, then by id. */
  readonly entries: readonly HeldEntry[]
  readonly bundles: ReadonlyMap<TrustDomain, HeldBundle>
  /** By entry id. */
  readonly svids: ReadonlyMap<string, HeldSvid>
  /** By the SPIFFE ID of their target. */
  readonly snapshots: ReadonlyMap<string, SignedSnapshot>
}

export const nothingHeld: Held = {
  sequence: 0n,
  entries: [],
  bundles: new Map(),
  svids: new Map(),
  snapshots: new Map(),
}

/** Whether an SVID was issued for the entry as it stands. */
export function isCurrent(svid: HeldSvid, entry: HeldEntry): boolean {
  return svid.revision === entry.revision && svid.createdAt === entry.createdAt
}

export function withSvids(held: Held, issued: ReadonlyMap<string, HeldSvid>): Held {
  return { ...held, svids: new Map([...held.svids, ...issued]) }
}

/** Lets go of the SVIDs that have ended by `now`; the same object when there are none. */
export function withoutExpired(held: Held, now: number): Held {
  const svids = new Map([...held.svids].filter(([, { expiresAt }]) => expiresAt > now))
  return svids.size === held.svids.size ? held : { ...held, svids }
}

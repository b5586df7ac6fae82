import type { Random } from '../../platform/random.js'
import type { X509SVID } from '../../proto/gen/spire/api/types/types.js'
import { isMemberOf, type TrustDomain, type X509Svid } from '../../spiffe/index.js'
import { drawRenewal, expiryOf } from '../identities/renewal.js'
import type { RequestedKey } from './csr.js'
import { readX509Svid, unusable } from './wire.js'

/** What the agent proves to its sentry who it is with. */
export interface OwnIdentity {
  readonly svid: X509Svid
  /** PKCS#8. */
  readonly privateKeyDer: Uint8Array
  /** Milliseconds since 1970; drawn once. */
  readonly renewAt: number
}

/** Where the agent's own SVID is kept. What it returns has been sealed on disk before it resolves. */
export interface OwnIdentityStore {
  current(): OwnIdentity | undefined
  /** Proves that something can be kept, before a single-use token is shown. */
  prepare(): Promise<void>
  keep(own: OwnIdentity, evidenceId?: string): Promise<void>
  /** Lets go of everything at the sentry's word. */
  wipe(): Promise<void>
  /** Whether the SVID in hand, or one before it, came from this evidence. */
  isSpent(evidenceId: string): boolean
  isBanned(): boolean
}

/** Reads what the sentry issued for the agent itself. Throws `CS_SENTRY_RESPONSE_INVALID`. */
export function readOwnIdentity(
  svid: X509SVID | undefined,
  options: {
    readonly key: RequestedKey
    readonly trustDomain: TrustDomain
    readonly now: number
    readonly random: Random
  },
): OwnIdentity {
  const { key, trustDomain, now, random } = options
  const own = readX509Svid(svid, { key })
  if (!isMemberOf(own.id, trustDomain)) {
    throw unusable(`sentry named this agent ${own.id}, outside of ${trustDomain}`)
  }
  return {
    svid: own,
    privateKeyDer: key.privateKeyDer,
    renewAt: drawRenewal({ svid: own, now, random }),
  }
}

export function hasExpired({ svid }: OwnIdentity, now: number): boolean {
  return expiryOf(svid) <= now
}

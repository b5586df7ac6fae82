import { createHash } from 'node:crypto'
import {
  parseSpiffeId,
  parseTrustDomain,
  type SpiffeId,
  type TrustDomain,
} from '../../spiffe/index.js'
import type { TableSpec } from '../datastore/table.js'
import { type Selector, selectorText } from './selector.js'

/** An operator's promise: a workload with these selectors, under this parent, is this SPIFFE ID. */
export interface RegistrationEntry {
  readonly id: string
  readonly spiffeId: SpiffeId
  /** The agent, or the entry, that this one hangs under. */
  readonly parentId: SpiffeId
  readonly selectors: readonly Selector[]
  /** Seconds; 0 for the sentry's default. */
  readonly x509SvidTtl: number
  readonly jwtSvidTtl: number
  readonly federatesWith: readonly TrustDomain[]
  readonly dnsNames: readonly string[]
  readonly admin: boolean
  readonly downstream: boolean
  readonly storeSvid: boolean
  readonly hint: string
  /** Seconds since 1970; 0 for never. */
  readonly expiresAt: bigint
  /** Grows by one with every update. */
  readonly revision: bigint
  /** Seconds since 1970. */
  readonly createdAt: bigint
  /** Present but empty differs from absent, as on the wire. */
  readonly attributes: EntryAttributes | undefined
}

export interface EntryAttributes {
  readonly disableX509SvidPrefetch: boolean
  readonly jwtSvidIncludeJti: boolean
}

export type EntryIndex = 'parent' | 'spiffe-id' | 'similarity' | 'federates-with' | 'expires'

/** The one term of the index `expires`. */
export const EXPIRES = 'yes'

export const entryTable: TableSpec<RegistrationEntry, EntryIndex> = {
  kind: 'entry',
  indexes: ['parent', 'spiffe-id', 'similarity', 'federates-with', 'expires'],
  keyOf: ({ id }) => id,
  termsOf(index, entry) {
    switch (index) {
      case 'parent':
        return [entry.parentId]
      case 'spiffe-id':
        return [entry.spiffeId]
      case 'similarity':
        return [similarityOf(entry)]
      case 'federates-with':
        return entry.federatesWith
      case 'expires':
        return entry.expiresAt > 0n ? [EXPIRES] : []
    }
  },
  encode: ({ expiresAt, revision, createdAt, ...rest }) =>
    JSON.stringify({
      ...rest,
      expiresAt: String(expiresAt),
      revision: String(revision),
      createdAt: String(createdAt),
    }),
  decode(payload) {
    const stored = JSON.parse(payload) as StoredEntry
    return {
      ...stored,
      spiffeId: parseSpiffeId(stored.spiffeId),
      parentId: parseSpiffeId(stored.parentId),
      federatesWith: stored.federatesWith.map(parseTrustDomain),
      expiresAt: BigInt(stored.expiresAt),
      revision: BigInt(stored.revision),
      createdAt: BigInt(stored.createdAt),
      attributes: stored.attributes,
    }
  },
}

/** An entry that says nothing but what it must. */
export function plainEntry(
  entry: Pick<RegistrationEntry, 'id' | 'spiffeId' | 'parentId' | 'selectors' | 'createdAt'>,
): RegistrationEntry {
  return {
    ...entry,
    x509SvidTtl: 0,
    jwtSvidTtl: 0,
    federatesWith: [],
    dnsNames: [],
    admin: false,
    downstream: false,
    storeSvid: false,
    hint: '',
    expiresAt: 0n,
    revision: 0n,
    attributes: undefined,
  }
}

/** Equal for entries that promise the same ID, under the same parent, for the same set of selectors. */
export function similarityOf(
  entry: Pick<RegistrationEntry, 'spiffeId' | 'parentId' | 'selectors'>,
): string {
  const selectors = [...new Set(entry.selectors.map(selectorText))].sort()
  const text = JSON.stringify([entry.spiffeId, entry.parentId, selectors])
  return createHash('sha256').update(text).digest('base64url')
}

/** Whether its time is over at `now`, in milliseconds since 1970. */
export function hasExpired({ expiresAt }: RegistrationEntry, now: number): boolean {
  return expiresAt > 0n && expiresAt * 1000n <= BigInt(now)
}

type StoredEntry = Omit<
  RegistrationEntry,
  'spiffeId' | 'parentId' | 'federatesWith' | 'expiresAt' | 'revision' | 'createdAt'
> & {
  readonly spiffeId: string
  readonly parentId: string
  readonly federatesWith: readonly string[]
  readonly expiresAt: string
  readonly revision: string
  readonly createdAt: string
}

import type { TrustDomain } from '../../spiffe/index.js'
import type { Authorities } from '../authorities/authorities.js'
import type { Datastore } from '../datastore/datastore.js'
import type { Draft } from '../datastore/draft.js'
import {
  type BundleRecord,
  bundleTable,
  type JwtAuthorityRecord,
  type X509AuthorityRecord,
} from './bundle-record.js'

/** SPIRE's hint; how often those who cannot be told should ask. */
const REFRESH_HINT_SECONDS = 300n

/**
 * Publishes the keys that sign now, and those that are about to. The sequence grows with every change
 * and never falls back (Trust Domain and Bundle §4.1.1). Returns whether anything changed.
 */
export async function publishOwnBundle(options: {
  readonly datastore: Datastore
  readonly authorities: Pick<Authorities, 'bundleKeys'>
  readonly trustDomain: TrustDomain
}): Promise<boolean> {
  const { datastore, authorities, trustDomain } = options
  const { value } = await datastore.write((draft) => {
    const bundles = draft.table(bundleTable)
    const held = bundles.get(trustDomain)
    const next = withKeys(held, authorities.bundleKeys(), trustDomain)
    if (
      held &&
      bundleTable.encode({ ...next, sequence: held.sequence }) === bundleTable.encode(held)
    )
      return false
    bundles.put(next)
    return true
  })
  return value
}

/** Adds what is missing, as an operator's and not ours. Returns the bundle as it is then. */
export function appendToOwnBundle(
  draft: Draft,
  trustDomain: TrustDomain,
  added: Pick<BundleRecord, 'x509Authorities' | 'jwtAuthorities'>,
): BundleRecord | undefined {
  const bundles = draft.table(bundleTable)
  const held = bundles.get(trustDomain)
  if (!held) return undefined
  const x509 = added.x509Authorities.filter((authority) => !has(held.x509Authorities, authority))
  const jwt = added.jwtAuthorities.filter(
    ({ keyId }) => !held.jwtAuthorities.some((other) => other.keyId === keyId),
  )
  if (x509.length + jwt.length === 0) return held
  const next = {
    ...held,
    x509Authorities: [...held.x509Authorities, ...x509],
    jwtAuthorities: [...held.jwtAuthorities, ...jwt],
    sequence: held.sequence + 1n,
  }
  bundles.put(next)
  return next
}

function withKeys(
  held: BundleRecord | undefined,
  keys: ReturnType<Authorities['bundleKeys']>,
  trustDomain: TrustDomain,
): BundleRecord {
  const x509 = keys.x509.map((der): X509AuthorityRecord => ({ der, appended: false }))
  const jwt = keys.jwt.map(
    ({ keyId, publicKeyInfo, expiresAt }): JwtAuthorityRecord => ({
      keyId,
      publicKeyInfo,
      expiresAt: BigInt(Math.floor(expiresAt / 1000)),
      appended: false,
    }),
  )
  const appendedX509 = (held?.x509Authorities ?? []).filter(
    (authority) => authority.appended && !has(x509, authority),
  )
  const appendedJwt = (held?.jwtAuthorities ?? []).filter(
    ({ appended, keyId }) => appended && !jwt.some((own) => own.keyId === keyId),
  )
  return {
    trustDomain,
    x509Authorities: [...x509, ...appendedX509],
    jwtAuthorities: [...jwt, ...appendedJwt],
    refreshHint: REFRESH_HINT_SECONDS,
    sequence: (held?.sequence ?? 0n) + 1n,
  }
}

function has(held: readonly X509AuthorityRecord[], { der }: X509AuthorityRecord): boolean {
  return held.some((other) => Buffer.compare(other.der, der) === 0)
}

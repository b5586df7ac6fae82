import { createPublicKey } from 'node:crypto'
import type { Bundle, Entry, SPIFFEID, X509SVID } from '../../proto/gen/spire/api/types/types.js'
import {
  assertLeafProfile,
  type JwtAuthority,
  makeSpiffeId,
  parseCertificate,
  parseTrustDomain,
  pathOf,
  type SpiffeId,
  type TrustDomain,
  type X509Svid,
} from '../../spiffe/index.js'
import { AgentError } from '../errors.js'
import type { HeldBundle } from '../identities/held.js'
import type { HeldEntry, Selector } from '../identities/identities.js'
import type { RequestedKey } from './csr.js'

const MAX_ENTRY_ID_LENGTH = 255

/** Reads an entry that an agent of `trustDomain` may issue for. Throws `CS_SENTRY_RESPONSE_INVALID`. */
export function readEntry(entry: Entry, trustDomain: TrustDomain): HeldEntry {
  return reading(`entry ${entry.id}`, () => {
    if (entry.id === '' || entry.id.length > MAX_ENTRY_ID_LENGTH) throw unusable('id is not usable')
    if (entry.selectors.length === 0) throw unusable('selectors are missing')
    return {
      id: entry.id,
      spiffeId: readWorkloadId(entry.spiffeId, trustDomain),
      selectors: entry.selectors.map(readSelector),
      federatesWith: entry.federatesWith
        .map(readTrustDomain)
        .filter((name) => name !== trustDomain),
      hint: entry.hint,
      admin: entry.admin,
      downstream: entry.downstream,
      revision: entry.revisionNumber,
      createdAt: entry.createdAt,
      ...(entry.additionalAttributes?.disableX509SvidPrefetch && { onDemand: true }),
    }
  })
}

/** Reads a bundle completely or not at all. Throws `CS_SENTRY_RESPONSE_INVALID`. */
export function readBundle(bundle: Bundle): HeldBundle {
  return reading(`bundle of ${bundle.trustDomain}`, () => {
    const roots = bundle.x509Authorities.map(({ asn1, tainted }) => ({
      certificate: parseCertificate(asn1),
      tainted,
    }))
    return {
      bundle: {
        trustDomain: readTrustDomain(bundle.trustDomain),
        x509Authorities: roots.map(({ certificate }) => certificate),
        jwtAuthorities: new Map(bundle.jwtAuthorities.map(readJwtAuthority)),
        sequence: bundle.sequenceNumber,
        ...(bundle.refreshHint > 0n && { refreshHint: Number(bundle.refreshHint) }),
      },
      taintedX509: new Set(
        roots.filter(isTainted).map(({ certificate }) => certificate.fingerprint),
      ),
      taintedJwt: new Set(bundle.jwtAuthorities.filter(isTainted).map(({ keyId }) => keyId)),
    }
  })
}

/**
 * Reads what was issued for a key of ours: a leaf as the profile wants it, with our key in it. That the
 * rest of the chain leads anywhere is for whoever has the bundle to see. Throws `CS_SENTRY_RESPONSE_INVALID`.
 */
export function readX509Svid(
  svid: X509SVID | undefined,
  { key, hint }: { readonly key: IssuedKey; readonly hint?: string },
): X509Svid {
  return reading('issued certificate', () => {
    const [leaf, ...issuers] = svid?.certChain.map(parseCertificate) ?? []
    if (!leaf) throw unusable('chain is missing')
    const id = assertLeafProfile(leaf)
    if (Buffer.compare(leaf.publicKeyInfo, key.publicKeyInfo) !== 0) {
      throw unusable('it is for another key')
    }
    const { privateKey } = key
    return { id, chain: [leaf, ...issuers], privateKey, ...(hint && { hint }) }
  })
}

/** The key that a request was made for. */
export type IssuedKey = Pick<RequestedKey, 'privateKey' | 'publicKeyInfo'>

/** Reads a trust domain that may be written as a SPIFFE ID, as SPIRE allows. */
export function readTrustDomain(text: string): TrustDomain {
  return parseTrustDomain(text.replace(/^spiffe:\/\//, ''))
}

export function readSpiffeId(id: SPIFFEID | undefined): SpiffeId {
  if (!id) throw unusable('SPIFFE ID is missing')
  return makeSpiffeId(readTrustDomain(id.trustDomain), id.path)
}

export function unusable(message: string): AgentError {
  return new AgentError('CS_SENTRY_RESPONSE_INVALID', message)
}

function readWorkloadId(id: SPIFFEID | undefined, trustDomain: TrustDomain): SpiffeId {
  const spiffeId = readSpiffeId(id)
  if (readTrustDomain(id?.trustDomain ?? '') !== trustDomain || pathOf(spiffeId) === '') {
    throw unusable(`${spiffeId} is not a workload of ${trustDomain}`)
  }
  return spiffeId
}

function readSelector({ type, value }: Selector): Selector {
  if (type === '' || type.includes(':') || value === '') throw unusable('selector is malformed')
  return { type, value }
}

function readJwtAuthority(key: {
  readonly keyId: string
  readonly publicKey: Uint8Array
}): [string, JwtAuthority] {
  if (key.keyId === '') throw unusable('key id is missing')
  const publicKey = createPublicKey({
    key: Buffer.from(key.publicKey),
    format: 'der',
    type: 'spki',
  })
  return [key.keyId, { keyId: key.keyId, publicKey }]
}

function isTainted({ tainted }: { readonly tainted: boolean }): boolean {
  return tainted
}

/** Everything that goes wrong while `what` is read is the sentry's doing. */
function reading<Result>(what: string, read: () => Result): Result {
  try {
    return read()
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new AgentError('CS_SENTRY_RESPONSE_INVALID', `${what}: ${why}`, { cause: error })
  }
}

import { Metadata, type status } from '@grpc/grpc-js'
import { Status } from '../../proto/gen/google/rpc/status.js'
import {
  Bundle,
  Entry,
  PermissionDeniedDetails,
  type PermissionDeniedDetails_Reason as Reason,
} from '../../proto/gen/spire/api/types/types.js'
import type { TrustBundle } from '../../spiffe/index.js'

/** An entry as a sentry sends it; selectors are written `type:value`. */
export function entry(fields: {
  readonly id: string
  readonly path: string
  readonly trustDomain?: string
  readonly selectors?: readonly string[]
  readonly federatesWith?: readonly string[]
  readonly hint?: string
  readonly revision?: number
  readonly createdAt?: number
  readonly dnsNames?: readonly string[]
  readonly onDemand?: boolean
}): Entry {
  const { id, path, trustDomain = 'prod.example', selectors = ['unix:uid:1000'] } = fields
  return Entry.fromPartial({
    id,
    spiffeId: { trustDomain, path },
    parentId: { trustDomain, path: '/spire/agent/join_token/t' },
    selectors: selectors.map((text) => {
      const colon = text.indexOf(':')
      return { type: text.slice(0, colon), value: text.slice(colon + 1) }
    }),
    federatesWith: [...(fields.federatesWith ?? [])],
    hint: fields.hint ?? '',
    dnsNames: [...(fields.dnsNames ?? [])],
    revisionNumber: BigInt(fields.revision ?? 0),
    createdAt: BigInt(fields.createdAt ?? 1_700_000_000),
    ...(fields.onDemand && { additionalAttributes: { disableX509SvidPrefetch: true } }),
  })
}

export function wireBundle(
  bundle: TrustBundle,
  options: {
    readonly taintedX509?: readonly string[]
    readonly taintedJwt?: readonly string[]
  } = {},
): Bundle {
  return Bundle.fromPartial({
    trustDomain: bundle.trustDomain,
    x509Authorities: bundle.x509Authorities.map(({ der, fingerprint }) => ({
      asn1: der,
      tainted: options.taintedX509?.includes(fingerprint) ?? false,
    })),
    jwtAuthorities: [...bundle.jwtAuthorities.values()].map(({ keyId, publicKey }) => ({
      keyId,
      publicKey: publicKey.export({ format: 'der', type: 'spki' }),
      tainted: options.taintedJwt?.includes(keyId) ?? false,
    })),
    refreshHint: BigInt(bundle.refreshHint ?? 0),
    sequenceNumber: bundle.sequence ?? 0n,
  })
}

/** What happens to a call before it is served: an error to answer with, or never an answer. */
export type Failure = { readonly code: status; readonly details?: string; reason?: Reason } | 'hang'

/** What grpc-js sends as the end of a call, with SPIRE's details where there is a reason. */
export function refusal({
  code,
  details = 'refused by the test',
  reason,
}: Exclude<Failure, 'hang'>) {
  const metadata = new Metadata()
  if (reason !== undefined) {
    const value = PermissionDeniedDetails.encode({ reason }).finish()
    const typeUrl = 'type.googleapis.com/spire.api.types.PermissionDeniedDetails'
    const detail = Status.encode({ code, message: details, details: [{ typeUrl, value }] }).finish()
    metadata.set('grpc-status-details-bin', Buffer.from(detail))
  }
  return Object.assign(new Error(details), { code, details, metadata })
}

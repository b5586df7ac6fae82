import type { Entry, Selector, SPIFFEID } from '../proto/gen/spire/api/types/types.js'
import { parseSpiffeId, pathOf, trustDomainOf } from '../spiffe/index.js'
import { CliError } from './errors.js'

/** An ID as the wire has it. Throws `CS_SPIFFE_ID_INVALID`. */
export function wireId(text: string): SPIFFEID {
  const id = parseSpiffeId(text)
  return { trustDomain: trustDomainOf(id), path: pathOf(id) }
}

export function idText(id: SPIFFEID | undefined): string {
  return id ? `spiffe://${id.trustDomain}${id.path}` : ''
}

/** Reads `type:value`, such as `unix:uid:1000`. Throws `CS_USAGE`. */
export function wireSelector(text: string): Selector {
  const at = text.indexOf(':')
  if (at < 1 || at === text.length - 1) {
    throw new CliError(
      'CS_USAGE',
      `a selector is written type:value, such as unix:uid:1000, not ${text}`,
    )
  }
  return { type: text.slice(0, at), value: text.slice(at + 1) }
}

export const selectorText = ({ type, value }: Selector) => `${type}:${value}`

/** An entry as JSON shows it: names as in SPIRE's API, IDs as text, times as ISO 8601. */
export function entryJson(entry: Entry): Readonly<Record<string, unknown>> {
  return {
    id: entry.id,
    spiffe_id: idText(entry.spiffeId),
    parent_id: idText(entry.parentId),
    selectors: entry.selectors.map(selectorText),
    x509_svid_ttl: entry.x509SvidTtl,
    jwt_svid_ttl: entry.jwtSvidTtl,
    federates_with: entry.federatesWith,
    dns_names: entry.dnsNames,
    admin: entry.admin,
    downstream: entry.downstream,
    hint: entry.hint,
    expires_at: isoTime(entry.expiresAt),
    created_at: isoTime(entry.createdAt),
    revision: Number(entry.revisionNumber),
  }
}

/** Seconds since 1970 as ISO 8601; null for 0, which stands for never. */
export function isoTime(seconds: bigint): string | null {
  return seconds === 0n ? null : new Date(Number(seconds) * 1000).toISOString()
}

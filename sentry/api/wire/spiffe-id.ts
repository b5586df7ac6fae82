import type { SPIFFEID } from '../../../proto/gen/spire/api/types/types.js'
import {
  parseTrustDomain,
  pathOf,
  type SpiffeId,
  type TrustDomain,
  trustDomainOf,
} from '../../../spiffe/index.js'
import { SentryError } from '../../errors.js'

const SCHEME = 'spiffe://'

/** The text of an ID, not judged yet. Throws `CS_REQUEST_INVALID` when there is none. */
export function textOfId(id: SPIFFEID | undefined): string {
  if (!id) throw new SentryError('CS_REQUEST_INVALID', 'request must specify SPIFFE ID')
  const { trustDomain, path } = id
  return `${trustDomain.startsWith(SCHEME) ? '' : SCHEME}${trustDomain}${path}`
}

export function idToWire(id: SpiffeId): SPIFFEID {
  return { trustDomain: trustDomainOf(id), path: pathOf(id) }
}

/** A trust domain as a name or as an ID; of an ID only the trust domain counts. Throws `CS_SPIFFE_ID_INVALID`. */
export function trustDomainFromWire(text: string): TrustDomain {
  if (!text.startsWith(SCHEME)) return parseTrustDomain(text)
  const [name = ''] = text.slice(SCHEME.length).split('/')
  return parseTrustDomain(name)
}

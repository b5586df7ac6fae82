import { parseSpiffeId, pathOf, SpiffeError, type TrustDomain, trustDomainOf } from '../index.js'

export const invalidResponse = (message: string) => new SpiffeError('CS_RESPONSE_INVALID', message)

/** In proto3 an absent field and an empty one are the same; a mandatory one may be neither (Workload API §4.5). */
export function assertPresent(field: string, value: string | Uint8Array): void {
  if (value.length === 0) throw invalidResponse(`${field} is empty`)
}

/** Beyond this a hint is not supported (Workload API §8); the SVID then counts as one without a hint. */
const MAX_HINT_BYTES = 1024

export function hintIn({ hint }: { readonly hint: string }): { readonly hint?: string } {
  return hint === '' || Buffer.byteLength(hint) > MAX_HINT_BYTES ? {} : { hint }
}

/** Bundle maps are keyed by the SPIFFE ID of the trust domain (`spiffe://b.example`). Throws `CS_RESPONSE_INVALID`. */
export function trustDomainOfKey(key: string): TrustDomain {
  const id = atPlace('key of a bundle', () => parseSpiffeId(key))
  if (pathOf(id) !== '') throw invalidResponse('key of a bundle is not the id of a trust domain')
  return trustDomainOf(id)
}

/** Runs a check; whatever standard it finds broken makes the response invalid, and `place` says where. */
export function atPlace<T>(place: string, check: () => T): T {
  try {
    return check()
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    throw new SpiffeError('CS_RESPONSE_INVALID', `${place}: ${error.message}`, { cause: error })
  }
}

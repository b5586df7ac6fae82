import { SpiffeError } from './errors.js'

declare const brand: unique symbol

/** A trust domain name, such as `prod.example`. Made only by {@link parseTrustDomain}. */
export type TrustDomain = string & { readonly [brand]: 'TrustDomain' }

/** A SPIFFE ID, such as `spiffe://prod.example/billing/api`. Made only by {@link parseSpiffeId}. */
export type SpiffeId = string & { readonly [brand]: 'SpiffeId' }

/** Length limits of SPIFFE-ID §2.3, in bytes. Everything allowed is ASCII, so characters are bytes. */
const MAX_ID_LENGTH = 2048
const MAX_TRUST_DOMAIN_LENGTH = 255

const SCHEME = 'spiffe://'
const TRUST_DOMAIN = /^[a-z0-9._-]+$/
const PATH_SEGMENT = /^[A-Za-z0-9._-]+$/

const invalid = (message: string) => new SpiffeError('CS_SPIFFE_ID_INVALID', message)

/** Reads a trust domain name (SPIFFE-ID §2.1), not an ID. Throws `CS_SPIFFE_ID_INVALID`. */
export function parseTrustDomain(name: string): TrustDomain {
  if (name === '') throw invalid('trust domain is empty')
  if (name.length > MAX_TRUST_DOMAIN_LENGTH) {
    throw invalid(`trust domain is longer than ${MAX_TRUST_DOMAIN_LENGTH} bytes`)
  }
  if (!TRUST_DOMAIN.test(name)) {
    throw invalid('trust domain may hold only lowercase letters, digits, dots, dashes, underscores')
  }
  return name as TrustDomain
}

/** Reads a SPIFFE ID (SPIFFE-ID §2). A bare trust domain is one. Throws `CS_SPIFFE_ID_INVALID`. */
export function parseSpiffeId(text: string): SpiffeId {
  if (text.length > MAX_ID_LENGTH) throw invalid(`id is longer than ${MAX_ID_LENGTH} bytes`)
  if (!text.startsWith(SCHEME)) throw invalid('id must start with spiffe://')

  const [name = '', ...segments] = text.slice(SCHEME.length).split('/')
  parseTrustDomain(name)
  segments.forEach(assertPathSegment)
  return text as SpiffeId
}

/** Reads a SPIFFE ID that names a workload, so one with a path. Throws `CS_SPIFFE_ID_INVALID`. */
export function parseWorkloadId(text: string): SpiffeId {
  const id = parseSpiffeId(text)
  if (pathOf(id) === '') throw invalid('id names a trust domain, not a workload: it has no path')
  return id
}

/** The ID of the trust domain itself, which authorities carry: `spiffe://prod.example`. */
export function idOfTrustDomain(trustDomain: TrustDomain): SpiffeId {
  return `${SCHEME}${trustDomain}` as SpiffeId
}

/** Joins a trust domain and a path that is empty or starts with `/`. Throws `CS_SPIFFE_ID_INVALID`. */
export function makeSpiffeId(trustDomain: TrustDomain, path: string): SpiffeId {
  if (path !== '' && !path.startsWith('/'))
    throw invalid('path must be empty or start with a slash')
  return parseSpiffeId(`${SCHEME}${trustDomain}${path}`)
}

export function trustDomainOf(id: SpiffeId): TrustDomain {
  const end = id.indexOf('/', SCHEME.length)
  return (end === -1 ? id.slice(SCHEME.length) : id.slice(SCHEME.length, end)) as TrustDomain
}

/** The path with its leading slash, or the empty string for the ID of a trust domain. */
export function pathOf(id: SpiffeId): string {
  const start = id.indexOf('/', SCHEME.length)
  return start === -1 ? '' : id.slice(start)
}

export function isMemberOf(id: SpiffeId, trustDomain: TrustDomain): boolean {
  return trustDomainOf(id) === trustDomain
}

function assertPathSegment(segment: string): void {
  if (segment === '') throw invalid('path may not have an empty segment or end in a slash')
  if (segment === '.' || segment === '..') throw invalid('path may not have a dot segment')
  if (!PATH_SEGMENT.test(segment)) {
    throw invalid('path may hold only letters, digits, dots, dashes, underscores')
  }
}

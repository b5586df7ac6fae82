import type { JwtAuthority, TrustBundle } from './bundle.js'
import { publicJwk, readJwtKey, readX509Entry } from './bundle-jwk.js'
import { SpiffeError } from './errors.js'
import type { TrustDomain } from './id.js'
import { isJsonObject, type JsonObject, type JsonValue, readJson } from './strict-json.js'
import type { Certificate } from './x509-certificate.js'

export interface BundleReadOptions {
  /** Told of everything that is passed over although it looks like a mistake. */
  readonly onWarning?: (message: string) => void
}

/** Room for a thousand RSA roots. */
const MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
/** To import a key on a large curve takes 2 ms, so a document full of them would take half a minute. */
const MAX_JWT_ENTRIES = 512
const MAX_UINT64 = 2n ** 64n - 1n

const invalid = (message: string) => new SpiffeError('CS_BUNDLE_INVALID', message)

/**
 * Reads a SPIFFE bundle document (SPIFFE Trust Domain and Bundle §4) of the trust domain it was got for.
 * Entries of unknown kinds are passed over; one of a known kind that is damaged spoils the document, so
 * that the bundle before it can stay in force. No keys at all is a bundle too: everything is revoked.
 * Throws `CS_BUNDLE_INVALID`.
 */
export function readBundleDocument(
  bytes: Uint8Array,
  trustDomain: TrustDomain,
  options?: BundleReadOptions,
): TrustBundle {
  return readBundle(readBundleJson(bytes), trustDomain, options)
}

/** Reads a bundle that stands inside another document. Throws `CS_BUNDLE_INVALID`. */
export function readBundle(
  value: JsonValue | undefined,
  trustDomain: TrustDomain,
  { onWarning = () => {} }: BundleReadOptions = {},
): TrustBundle {
  const document = keyDocumentIn(value)
  const x509Authorities = readX509Authorities(entriesFor(document, 'x509-svid'), onWarning)
  const jwtAuthorities = readJwtAuthorities(entriesFor(document, 'jwt-svid'), onWarning)
  const sequence = readUint64(document, 'spiffe_sequence', onWarning)
  const refreshHint = readUint64(document, 'spiffe_refresh_hint', onWarning)
  return {
    trustDomain,
    x509Authorities,
    jwtAuthorities,
    ...(sequence !== undefined && { sequence }),
    ...(refreshHint !== undefined && { refreshHint: Number(refreshHint) }),
  }
}

/**
 * Reads the JWK Set of a JWT bundle as the Workload API sends it, where `use` may be left out.
 * Throws `CS_BUNDLE_INVALID`.
 */
export function readJwtKeySet(
  bytes: Uint8Array,
  { onWarning = () => {} }: BundleReadOptions = {},
): ReadonlyMap<string, JwtAuthority> {
  const { keys } = keyDocumentIn(readBundleJson(bytes))
  const entries = keys.filter(({ use }) => use === undefined || use === 'jwt-svid')
  return readJwtAuthorities(entries, onWarning)
}

/** The full bundle document, as a bundle endpoint publishes it. */
export function writeBundleDocument(bundle: TrustBundle): string {
  const keys = [
    ...bundle.x509Authorities.map(x509Entry),
    ...[...bundle.jwtAuthorities.values()].map((authority) => ({
      ...publicJwkOf(authority),
      use: 'jwt-svid',
    })),
  ]
  // Written out by hand: JSON.stringify knows no integer beyond 2^53.
  const members = [
    ...(bundle.sequence === undefined ? [] : [`"spiffe_sequence":${bundle.sequence}`]),
    ...(bundle.refreshHint === undefined ? [] : [`"spiffe_refresh_hint":${bundle.refreshHint}`]),
    `"keys":${JSON.stringify(keys)}`,
  ]
  return `{${members.join(',')}}`
}

/** The JWK Set of the keys that sign JWT-SVIDs, without `use`: JOSE libraries skip keys with one they do not know. */
export function jwtKeySetOf(bundle: TrustBundle): string {
  return JSON.stringify({ keys: [...bundle.jwtAuthorities.values()].map(publicJwkOf) })
}

type Warn = (message: string) => void

interface KeyDocument {
  readonly members: JsonObject
  readonly keys: readonly JsonObject[]
}

/** Reads the JSON of a bundle or of something that holds bundles. Throws `CS_BUNDLE_INVALID`. */
export function readBundleJson(bytes: Uint8Array): JsonValue {
  return readJson(bytes, {
    code: 'CS_BUNDLE_INVALID',
    maxBytes: MAX_DOCUMENT_BYTES,
    integers: 'exact',
  })
}

function keyDocumentIn(members: JsonValue | undefined): KeyDocument {
  if (!isJsonObject(members)) throw invalid('bundle is not a JSON object')
  const { keys } = members
  if (keys === undefined) throw invalid('bundle has no member keys')
  if (!Array.isArray(keys)) throw invalid('member keys of the bundle is not an array')
  return { members, keys: (keys as readonly JsonValue[]).filter(isJsonObject) }
}

/** `use` is compared with regard to case; entries without it or with another are for somebody else. */
function entriesFor({ keys }: KeyDocument, use: string): readonly JsonObject[] {
  return keys.filter((entry) => entry['use'] === use)
}

function readX509Authorities(
  entries: readonly JsonObject[],
  onWarning: Warn,
): readonly Certificate[] {
  const found = new Map<string, Certificate>()
  for (const entry of entries.map(readX509Entry)) {
    if (entry.kind === 'used') found.set(entry.authority.fingerprint, entry.authority)
    else onWarning(`an x509-svid entry is ignored: ${entry.reason}`)
  }
  return [...found.values()]
}

function readJwtAuthorities(
  entries: readonly JsonObject[],
  onWarning: Warn,
): ReadonlyMap<string, JwtAuthority> {
  if (entries.length > MAX_JWT_ENTRIES) {
    throw invalid(`bundle holds more than ${MAX_JWT_ENTRIES} keys for JWT-SVIDs`)
  }
  const found = new Map<string, JwtAuthority>()
  const repeated = repeatedIn(entries.map(({ kid }) => kid))
  for (const entry of entries) {
    const { kid } = entry
    const ignore = (reason: string) =>
      onWarning(`jwt-svid entry ${JSON.stringify(kid) ?? 'without kid'} is ignored: ${reason}`)
    if (typeof kid !== 'string' || kid === '') {
      ignore('it has no kid')
    } else if (repeated.has(kid)) {
      ignore('its kid occurs more than once')
    } else {
      const key = readJwtKey(entry)
      if (key.kind === 'used') found.set(kid, { keyId: kid, publicKey: key.authority })
      else ignore(key.reason)
    }
  }
  return found
}

function repeatedIn(values: readonly unknown[]): ReadonlySet<unknown> {
  const seen = new Set<unknown>()
  return new Set(values.filter((value) => seen.size === seen.add(value).size))
}

/** A malformed number counts as absent; the keys matter more. */
function readUint64({ members }: KeyDocument, name: string, onWarning: Warn): bigint | undefined {
  const value = members[name]
  if (value === undefined) return undefined
  const whole = typeof value === 'bigint' || Number.isSafeInteger(value)
  const integer = whole ? BigInt(value as bigint | number) : -1n
  if (integer >= 0n && integer <= MAX_UINT64) return integer
  onWarning(`${name} is ignored: it is not an integer of 64 bits`)
  return undefined
}

function x509Entry(certificate: Certificate) {
  const x5c = [Buffer.from(certificate.der).toString('base64')]
  return { ...publicJwk(certificate.publicKey), use: 'x509-svid', x5c }
}

function publicJwkOf({ keyId, publicKey }: JwtAuthority) {
  return { ...publicJwk(publicKey), kid: keyId }
}

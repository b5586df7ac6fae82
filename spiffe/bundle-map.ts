import type { TrustBundle } from './bundle.js'
import {
  type BundleReadOptions,
  readBundle,
  readBundleJson,
  writeBundleDocument,
} from './bundle-format.js'
import { SpiffeError } from './errors.js'
import { parseTrustDomain, type TrustDomain } from './id.js'
import { isJsonObject } from './strict-json.js'

/** The bundles of several trust domains, as one document hands them out. */
export type BundleMap = ReadonlyMap<TrustDomain, TrustBundle>

const invalid = (message: string, options?: ErrorOptions) =>
  new SpiffeError('CS_BUNDLE_INVALID', message, options)

/**
 * Reads a bundle map (SPIFFE Trust Domain and Bundle §5), whole or not at all. It is the full state: a trust
 * domain that is missing is gone. Refresh hints inside are passed over. Throws `CS_BUNDLE_INVALID`.
 */
export function readBundleMap(bytes: Uint8Array, options?: BundleReadOptions): BundleMap {
  const document = readBundleJson(bytes)
  const domains = isJsonObject(document) ? document['trust_domains'] : undefined
  if (!isJsonObject(domains)) throw invalid('bundle map has no member trust_domains')
  const read = new Map<TrustDomain, TrustBundle>()
  for (const [name, value] of Object.entries(domains)) {
    const { refreshHint: _, ...bundle } = readBundle(value, trustDomainIn(name), options)
    read.set(bundle.trustDomain, bundle)
  }
  return read
}

/** Writes a bundle map. Throws `CS_BUNDLE_INVALID` if two bundles are of the same trust domain. */
export function writeBundleMap(bundles: Iterable<TrustBundle>): string {
  const written = new Map<TrustDomain, string>()
  for (const { refreshHint: _, ...bundle } of bundles) {
    const { trustDomain } = bundle
    if (written.has(trustDomain)) throw invalid(`two bundles are of trust domain ${trustDomain}`)
    written.set(trustDomain, writeBundleDocument(bundle))
  }
  const members = [...written].map(([name, document]) => `${JSON.stringify(name)}:${document}`)
  return `{"trust_domains":{${members.join(',')}}}`
}

function trustDomainIn(name: string): TrustDomain {
  try {
    return parseTrustDomain(name)
  } catch (error) {
    throw invalid(`bundle map names no trust domain: ${(error as Error).message}`, { cause: error })
  }
}

import {
  bundleSet,
  parseCertificate,
  parseWorkloadId,
  parseX509Svid,
  splitCertificates,
  type TrustBundle,
  type TrustDomain,
  trustDomainOf,
  verifyX509Svid,
  type X509Svid,
} from '../index.js'
import type { X509BundlesResponse, X509SVID, X509SVIDResponse } from './gen/workload.js'
import {
  assertPresent,
  atPlace,
  hintIn,
  invalidResponse,
  trustDomainOfKey,
} from './response-checks.js'

/** All that FetchX509SVID said at one moment: never mixed with what it said at another. */
export interface X509Context {
  /** The first is the default identity (Workload API §8). */
  readonly svids: readonly [X509Svid, ...X509Svid[]]
  /** Own and federated trust domains. For X509-SVIDs only. */
  readonly bundles: X509Bundles
  /** DER revocation lists, as they came. */
  readonly crls: readonly Uint8Array[]
}

export type X509Bundles = ReadonlyMap<TrustDomain, TrustBundle>

/**
 * Reads and judges one message in full. What did not change since `previous` is the same object
 * again, up to the whole context. Throws `CS_RESPONSE_INVALID`.
 */
export function readX509Context(
  message: X509SVIDResponse,
  { now, previous }: { readonly now: Date; readonly previous: X509Context | undefined },
): X509Context {
  const known = previous?.bundles ?? new Map<TrustDomain, TrustBundle>()
  const own = readOwnBundles(message.svids, known)
  const [first, ...others] = message.svids.map((entry, index) =>
    atPlace(`svid ${index}`, () => readSvid(entry, { own, now, previous })),
  )
  if (!first) throw invalidResponse('response holds no svid')

  const federated = [...readBundleMap(message.federatedBundles, known)]
  // The bundle that came with an SVID is the one for its trust domain, whatever the map says.
  const bundles = new Map([...own, ...federated.filter(([name]) => !own.has(name))])
  const context: X509Context = { svids: [first, ...others], bundles, crls: message.crl }
  return previous && isSameContext(context, previous) ? previous : context
}

/** Reads the whole map of FetchX509Bundles. Throws `CS_RESPONSE_INVALID`. */
export function readX509Bundles(
  message: X509BundlesResponse,
  previous: X509Bundles | undefined,
): X509Bundles {
  if (message.bundles.size === 0) throw invalidResponse('response holds no bundle')
  const bundles = readBundleMap(message.bundles, previous ?? new Map<TrustDomain, TrustBundle>())
  return previous && isSameMap(bundles, previous) ? previous : bundles
}

/** Every SVID brings the bundle of its own trust domain; two for the same one must agree. */
function readOwnBundles(entries: readonly X509SVID[], known: X509Bundles): X509Bundles {
  const own = new Map<TrustDomain, TrustBundle>()
  entries.forEach((entry, index) =>
    atPlace(`svid ${index}`, () => {
      assertPresent('spiffe_id', entry.spiffeId)
      assertPresent('bundle', entry.bundle)
      const trustDomain = trustDomainOf(parseWorkloadId(entry.spiffeId))
      const before = own.get(trustDomain)
      const bundle = readBundle({
        trustDomain,
        der: entry.bundle,
        before: before ?? known.get(trustDomain),
      })
      if (before && bundle !== before)
        throw invalidResponse('bundle differs from that of another svid')
      own.set(trustDomain, bundle)
    }),
  )
  return own
}

interface SvidSurroundings {
  readonly own: X509Bundles
  readonly now: Date
  readonly previous: X509Context | undefined
}

function readSvid(entry: X509SVID, { own, now, previous }: SvidSurroundings): X509Svid {
  assertPresent('x509_svid', entry.x509Svid)
  assertPresent('x509_svid_key', entry.x509SvidKey)
  const chain = splitCertificates(entry.x509Svid)
  const svid = parseX509Svid({ chain, privateKeyDer: entry.x509SvidKey, ...hintIn(entry) })
  if (svid.id !== entry.spiffeId) throw invalidResponse('certificate carries another spiffe id')

  verifyX509Svid({ chain, bundles: bundleSet(own.values()), now })
  return previous?.svids.find((held) => isSameSvid(held, svid)) ?? svid
}

function readBundleMap(entries: ReadonlyMap<string, Uint8Array>, known: X509Bundles): X509Bundles {
  const bundles = new Map<TrustDomain, TrustBundle>()
  for (const [key, der] of entries) {
    const trustDomain = trustDomainOfKey(key)
    const bundle = atPlace(`bundle of ${key}`, () =>
      readBundle({ trustDomain, der, before: known.get(trustDomain) }),
    )
    bundles.set(trustDomain, bundle)
  }
  return bundles
}

interface BundleBytes {
  readonly trustDomain: TrustDomain
  readonly der: Uint8Array
  readonly before: TrustBundle | undefined
}

/** A verifier keeps its verdicts for as long as it sees the same object, so unchanged bytes give the same one. */
function readBundle({ trustDomain, der, before }: BundleBytes): TrustBundle {
  const certificates = der.length === 0 ? [] : splitCertificates(der)
  const held = before?.x509Authorities.map((authority) => authority.der)
  if (before && held && isSameList(certificates, held)) return before
  return {
    trustDomain,
    x509Authorities: certificates.map(parseCertificate),
    jwtAuthorities: new Map(),
  }
}

function isSameContext(one: X509Context, other: X509Context): boolean {
  return (
    one.svids.length === other.svids.length &&
    one.svids.every((svid, index) => svid === other.svids[index]) &&
    isSameMap(one.bundles, other.bundles) &&
    isSameList(one.crls, other.crls)
  )
}

function isSameSvid(one: X509Svid, other: X509Svid): boolean {
  const [ours, theirs] = [one, other].map(({ chain }) => chain.map(({ der }) => der))
  return one.hint === other.hint && isSameList(ours ?? [], theirs ?? [])
}

function isSameMap(one: X509Bundles, other: X509Bundles): boolean {
  return one.size === other.size && [...one].every(([key, value]) => other.get(key) === value)
}

function isSameList(one: readonly Uint8Array[], other: readonly Uint8Array[]): boolean {
  return (
    one.length === other.length &&
    one.every((bytes, index) => Buffer.compare(bytes, other[index] ?? new Uint8Array()) === 0)
  )
}

import {
  bundleNotFound,
  idOfTrustDomain,
  jwtKeySetOf,
  type TrustBundle,
  type X509Svid,
} from '../../spiffe/index.js'
import {
  JWTBundlesResponse,
  X509BundlesResponse,
  type X509SVID,
  X509SVIDResponse,
} from '../../spiffe/workload-api/index.js'
import type { HeldEntry, Identities } from '../identities/identities.js'

/** One message for one or many callers: encoded once, when first sent. */
export interface Message {
  /** Equal only if the content is. */
  readonly key: string
  encode(): Buffer
}

/** The contents of the streams of the Workload API, always whole. */
export interface Messages {
  /** Of the entries that have an SVID in hand; undefined when none has. Throws `CS_BUNDLE_NOT_FOUND`. */
  x509Svids(entries: readonly HeldEntry[]): Message | undefined
  x509Bundles(entries: readonly HeldEntry[]): Message
  jwtBundles(entries: readonly HeldEntry[]): Message
  /** A message of another service whose content these immutable parts make up. */
  madeOf(content: Content): Message
  close(): void
}

export interface Content {
  /** Tells kinds of messages apart. */
  readonly label: string
  readonly parts: readonly object[]
  readonly encode: () => Uint8Array
}

export function messages(identities: Identities): Messages {
  const encoded = encodings()
  const close = identities.onChange(() => encoded.turn())
  const madeOf = ({ label, parts, encode }: Content): Message => {
    const key = `${label}|${parts.map(numberOf).join()}`
    return { key, encode: () => encoded.once(key, () => bufferOf(encode())) }
  }
  return {
    close,
    madeOf,
    x509Svids(entries) {
      const held = heldSvids(entries, identities)
      if (held.length === 0) return undefined
      const own = ownBundle(identities)
      const federated = federatedBundles(entries, identities)
      const parts = [own, ...federated, ...held.flatMap(({ entry, svid }) => [entry, svid])]
      return madeOf({ label: 'x509', parts, encode: () => encodeSvids({ held, own, federated }) })
    },
    x509Bundles(entries) {
      const bundles = [ownBundle(identities), ...federatedBundles(entries, identities)]
      return madeOf({
        label: 'x509-bundles',
        parts: bundles,
        encode: () => encodeX509Bundles(bundles),
      })
    },
    jwtBundles(entries) {
      const own = identities.bundleFor(identities.trustDomain)
      const bundles = [own, ...federatedBundles(entries, identities)]
      return madeOf({
        label: 'jwt-bundles',
        parts: bundles,
        encode: () => encodeJwtBundles(bundles),
      })
    },
  }
}

/**
 * The hints of entries in the order they are served. One that was given before stays with the first
 * entry that has it (Workload API §5.2.1).
 */
export function hintsOf(entries: readonly HeldEntry[]): ReadonlyMap<HeldEntry, string> {
  const given = new Set<string>()
  return new Map(
    entries.map((entry) => {
      const hint = given.has(entry.hint) ? '' : entry.hint
      given.add(hint)
      return [entry, hint]
    }),
  )
}

interface HeldIdentity {
  readonly entry: HeldEntry
  readonly svid: X509Svid
}

function heldSvids(entries: readonly HeldEntry[], identities: Identities): HeldIdentity[] {
  return entries.flatMap((entry) => {
    const svid = identities.x509Svid(entry)
    return svid ? [{ entry, svid }] : []
  })
}

/** In the order of their names; our own is not among them. */
function federatedBundles(entries: readonly HeldEntry[], identities: Identities): TrustBundle[] {
  const bundles = identities.bundles()
  const names = new Set(entries.flatMap(({ federatesWith }) => federatesWith))
  names.delete(identities.trustDomain)
  return [...names].sort().flatMap((name) => bundles.get(name) ?? [])
}

/** Must be in every message (Workload API §5.2.1, §5.2.2), so one without X.509 keys cannot be served. */
function ownBundle(identities: Identities): TrustBundle {
  const bundle = identities.bundleFor(identities.trustDomain)
  return bundle.x509Authorities.length > 0 ? bundle : bundleNotFound(identities.trustDomain)
}

function encodeSvids({
  held,
  own,
  federated,
}: {
  readonly held: readonly HeldIdentity[]
  readonly own: TrustBundle
  readonly federated: readonly TrustBundle[]
}): Uint8Array {
  const hints = hintsOf(held.map(({ entry }) => entry))
  const bundle = x509BundleOf(own)
  const svids = held.map(
    ({ entry, svid }): X509SVID => ({
      spiffeId: svid.id,
      x509Svid: chainOf(svid),
      x509SvidKey: keyOf(svid),
      bundle,
      hint: hints.get(entry) ?? '',
    }),
  )
  const federatedBundles = x509BundleMap(federated)
  return X509SVIDResponse.encode({ svids, crl: [], federatedBundles }).finish()
}

function encodeX509Bundles(bundles: readonly TrustBundle[]): Uint8Array {
  const message = { crl: [], bundles: x509BundleMap(bundles) }
  return X509BundlesResponse.encode(message).finish()
}

function encodeJwtBundles(bundles: readonly TrustBundle[]): Uint8Array {
  const keySets = bundles.map((bundle): [string, Uint8Array] => [
    idOfTrustDomain(bundle.trustDomain),
    jwtBundleOf(bundle),
  ])
  return JWTBundlesResponse.encode({ bundles: new Map(keySets) }).finish()
}

/** A bundle without X.509 keys has no form in these messages: its absence says that nothing is trusted. */
function x509BundleMap(bundles: readonly TrustBundle[]): Map<string, Uint8Array> {
  return new Map(
    bundles
      .filter(({ x509Authorities }) => x509Authorities.length > 0)
      .map((bundle) => [idOfTrustDomain(bundle.trustDomain), x509BundleOf(bundle)]),
  )
}

const chainOf = oncePerObject(({ chain }: X509Svid) => Buffer.concat(chain.map(({ der }) => der)))
const keyOf = oncePerObject(({ privateKey }: X509Svid) =>
  privateKey.export({ type: 'pkcs8', format: 'der' }),
)
const x509BundleOf = oncePerObject(({ x509Authorities }: TrustBundle) =>
  Buffer.concat(x509Authorities.map(({ der }) => der)),
)
const jwtBundleOf = oncePerObject((bundle: TrustBundle) => Buffer.from(jwtKeySetOf(bundle)))

/** SVIDs, bundles and entries never change, so what was made of one holds as long as it does. */
function oncePerObject<Source extends object, Made>(make: (source: Source) => Made) {
  const made = new WeakMap<Source, Made>()
  return (source: Source): Made => {
    const known = made.get(source)
    if (known !== undefined) return known
    const fresh = make(source)
    made.set(source, fresh)
    return fresh
  }
}

let numbered = 0
const numberOf = oncePerObject<object, number>(() => {
  numbered += 1
  return numbered
})

/** Encoded messages of this and the last change; older ones are with whoever was sent them. */
function encodings() {
  let present = new Map<string, Buffer>()
  let past = new Map<string, Buffer>()
  return {
    turn() {
      past = present
      present = new Map()
    },
    once(key: string, encode: () => Buffer): Buffer {
      const bytes = present.get(key) ?? past.get(key) ?? encode()
      present.set(key, bytes)
      return bytes
    },
  }
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

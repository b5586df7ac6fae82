import type { SignedSnapshot } from '../../../proto/gen/countersign/policy/v1/policy.js'
import { FollowResponse, UpdatesService } from '../../../proto/gen/countersign/sentry/v1/updates.js'
import type { BundleRecord } from '../../bundles/bundle-record.js'
import type { RegistrationEntry } from '../../registration/entry.js'
import { bundleToWire } from '../wire/bundle.js'
import { entryToWire } from '../wire/entry.js'
import type { StateChange } from './held-state.js'

/** A message of the stream in its encoded form. */
export type EncodedResponse = Uint8Array

/** The service as generated, but for responses that are encoded already. */
export const encodedUpdatesService = {
  follow: {
    ...UpdatesService.follow,
    responseSerialize: (encoded: EncodedResponse): Buffer =>
      Buffer.from(encoded.buffer, encoded.byteOffset, encoded.byteLength),
  },
} as const

/** Well under what any gRPC peer takes unless told otherwise. */
const MAX_MESSAGE_BYTES = 1024 * 1024
const LARGEST_FRAGMENT = 4 * 1024 * 1024 - 1024
/** Bytes that the short fields of a message may take. */
const HEADER_BYTES = 64

export interface EncodeOptions {
  readonly sequence: number
  /** The change leads from nothing to the whole state. */
  readonly full: boolean
  /** Hears of what cannot be sent because no peer would take it. */
  readonly onOversize: (what: { readonly bytes: number }) => void
}

/**
 * A change as messages that belong together. Each object is encoded once, however many agents it goes
 * to: protobuf joins the fields of encodings that follow each other.
 */
export function encodeChange(change: StateChange, options: EncodeOptions): EncodedResponse[] {
  const { sequence, full, onOversize } = options
  const fragments = [
    ...change.bundles.map(bundleFragment),
    ...change.snapshots.map(snapshotFragment),
    ...change.entries.map(entryFragment),
    ...change.removedEntryIds.map((id) => encode({ removedEntryIds: [id] })),
    ...change.removedTrustDomains.map((name) => encode({ removedTrustDomains: [name] })),
    ...change.removedTargets.map((target) => encode({ removedTargets: [target] })),
  ].filter((fragment) => {
    const fits = fragment.byteLength <= LARGEST_FRAGMENT
    if (!fits) onOversize({ bytes: fragment.byteLength })
    return fits
  })
  const parts = inParts(fragments)
  return parts.map((part, index) => {
    const more = index < parts.length - 1
    const header = encode({ sequence: BigInt(sequence), full: full && index === 0, more })
    return Buffer.concat([header, ...part])
  })
}

function inParts(fragments: readonly Uint8Array[]): Uint8Array[][] {
  let part: Uint8Array[] = []
  let bytes = HEADER_BYTES
  const parts = [part]
  for (const fragment of fragments) {
    if (bytes + fragment.byteLength > MAX_MESSAGE_BYTES && part.length > 0) {
      part = []
      bytes = HEADER_BYTES
      parts.push(part)
    }
    part.push(fragment)
    bytes += fragment.byteLength
  }
  return parts
}

const bundleFragment = once((bundle: BundleRecord) => encode({ bundles: [bundleToWire(bundle)] }))
const entryFragment = once((entry: RegistrationEntry) => encode({ entries: [entryToWire(entry)] }))
const snapshotFragment = once((snapshot: SignedSnapshot) => encode({ snapshots: [snapshot] }))

function once<T extends object>(make: (value: T) => Uint8Array): (value: T) => Uint8Array {
  const made = new WeakMap<T, Uint8Array>()
  return (value) => {
    const held = made.get(value) ?? make(value)
    made.set(value, held)
    return held
  }
}

function encode(fields: Partial<FollowResponse>): Uint8Array {
  return FollowResponse.encode({ ...FollowResponse.create(), ...fields }).finish()
}

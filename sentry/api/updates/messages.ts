import { FollowResponse, UpdatesService } from '../../../proto/gen/countersign/sentry/v1/updates.js'
import type { BundleRecord } from '../../bundles/bundle-record.js'
import type { SignableSnapshot } from '../../policy/snapshot-signer.js'
import type { RegistrationEntry } from '../../registration/entry.js'
import type { Turns } from '../../turns.js'
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
  readonly turns: Turns
  /** Hears of what cannot be sent because no peer would take it. */
  readonly onOversize: (what: { readonly bytes: number }) => void
}

/**
 * A change as messages that belong together, each made when it is asked for. An object is encoded once,
 * however many agents it goes to: protobuf joins the fields of encodings that follow each other.
 */
export async function* encodeChange(
  change: StateChange,
  { sequence, full, turns, onOversize }: EncodeOptions,
): AsyncGenerator<EncodedResponse, void> {
  const header = (first: boolean, more: boolean) =>
    encode({ sequence: BigInt(sequence), full: full && first, more })
  let first = true
  let part: Uint8Array[] = []
  let bytes = HEADER_BYTES
  for (const make of fragmentsOf(change)) {
    const later = turns.take()
    if (later) await later
    const fragment = make()
    if (fragment.byteLength > LARGEST_FRAGMENT) {
      onOversize({ bytes: fragment.byteLength })
      continue
    }
    if (bytes + fragment.byteLength > MAX_MESSAGE_BYTES && part.length > 0) {
      yield Buffer.concat([header(first, true), ...part])
      first = false
      part = []
      bytes = HEADER_BYTES
    }
    part.push(fragment)
    bytes += fragment.byteLength
  }
  yield Buffer.concat([header(first, false), ...part])
}

function* fragmentsOf(change: StateChange): IterableIterator<() => Uint8Array> {
  for (const bundle of change.bundles) yield () => bundleFragment(bundle)
  for (const snapshot of change.snapshots) yield () => snapshotFragment(snapshot)
  for (const entry of change.entries) yield () => entryFragment(entry)
  for (const id of change.removedEntryIds) yield () => encode({ removedEntryIds: [id] })
  for (const name of change.removedTrustDomains) yield () => encode({ removedTrustDomains: [name] })
  for (const target of change.removedTargets) yield () => encode({ removedTargets: [target] })
}

const bundleFragment = once((bundle: BundleRecord) => encode({ bundles: [bundleToWire(bundle)] }))
const entryFragment = once((entry: RegistrationEntry) => encode({ entries: [entryToWire(entry)] }))
const snapshotFragment = once((snapshot: SignableSnapshot) =>
  encode({ snapshots: [snapshot.signed()] }),
)

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

import {
  type BatchCreateFederatedBundleRequest,
  type BatchCreateFederatedBundleResponse,
  type BatchDeleteFederatedBundleRequest,
  type BatchDeleteFederatedBundleResponse,
  type BatchSetFederatedBundleRequest,
  type BatchUpdateFederatedBundleRequest,
  BatchDeleteFederatedBundleRequest_Mode as Mode,
} from '../../proto/gen/spire/api/server/bundle/v1/bundle.js'
import type { Bundle, BundleMask } from '../../proto/gen/spire/api/types/types.js'
import { SpiffeError, type TrustDomain } from '../../spiffe/index.js'
import { type BundleRecord, bundleTable } from '../bundles/bundle-record.js'
import type { Draft } from '../datastore/draft.js'
import { SentryError } from '../errors.js'
import { entryTable } from '../registration/entry.js'
import { nameOf } from './caller.js'
import type { ApiContext } from './context.js'
import { type EntryChange, recordEntry } from './entry-record.js'
import type { CallContext } from './server-calls.js'
import { eachItem, okStatus } from './wire/batch.js'
import { bundleFromWire, maskedBundle } from './wire/bundle.js'
import { prefixed } from './wire/prefixed.js'
import { trustDomainFromWire } from './wire/spiffe-id.js'

type WriteResponse = BatchCreateFederatedBundleResponse

/** Bundles of other trust domains, as an operator sets them. */
export interface FederatedBundleWrites {
  create(request: BatchCreateFederatedBundleRequest, call: CallContext): Promise<WriteResponse>
  update(request: BatchUpdateFederatedBundleRequest, call: CallContext): Promise<WriteResponse>
  set(request: BatchSetFederatedBundleRequest, call: CallContext): Promise<WriteResponse>
  remove(
    request: BatchDeleteFederatedBundleRequest,
    call: CallContext,
  ): Promise<BatchDeleteFederatedBundleResponse>
}

export function federatedBundleWrites(context: ApiContext): FederatedBundleWrites {
  return {
    create: ({ bundle, outputMask }, call) =>
      writeEach(context, { bundle, outputMask, call, verb: 'creating' }, (wire, held) => {
        if (held) throw new SentryError('CS_BUNDLE_EXISTS', 'bundle already exists')
        return convert(wire.bundle, { trustDomain: wire.trustDomain })
      }),
    update: ({ bundle, inputMask: mask, outputMask }, call) =>
      writeEach(context, { bundle, outputMask, call, verb: 'updating' }, (wire, held) => {
        if (!held) throw bundleMissing()
        return convert(wire.bundle, { trustDomain: wire.trustDomain, held, mask })
      }),
    set: ({ bundle, outputMask }, call) =>
      writeEach(context, { bundle, outputMask, call, verb: 'setting' }, (wire) =>
        convert(wire.bundle, { trustDomain: wire.trustDomain }),
      ),
    remove: (request, call) => removeEach(context, request, call),
  }
}

/** Leaves the record of a change of a bundle. */
export function recordBundle(
  { audit }: ApiContext,
  { caller }: CallContext,
  { change, bundle }: { readonly change: string; readonly bundle: BundleRecord },
): void {
  audit.record({
    type: 'bundle.changed.v1',
    subject: `spiffe://${bundle.trustDomain}`,
    requester: nameOf(caller),
    details: {
      change,
      sequence: String(bundle.sequence),
      x509Authorities: bundle.x509Authorities.length,
      jwtAuthorities: bundle.jwtAuthorities.map(({ keyId }) => keyId),
    },
  })
}

interface NamedBundle {
  readonly trustDomain: TrustDomain
  readonly bundle: Bundle
}

async function writeEach(
  context: ApiContext,
  request: {
    readonly bundle: readonly Bundle[]
    readonly outputMask: BundleMask | undefined
    readonly call: CallContext
    readonly verb: string
  },
  decide: (wire: NamedBundle, held: BundleRecord | undefined) => BundleRecord,
): Promise<WriteResponse> {
  const { outputMask, call, verb } = request
  const { value: outcomes } = await context.datastore.write((draft) => {
    const bundles = draft.table(bundleTable)
    return eachItem(
      request.bundle,
      (bundle) => {
        const trustDomain = foreign(context, bundle.trustDomain, verb)
        const record = decide({ trustDomain, bundle }, bundles.get(trustDomain))
        bundles.put(record)
        return { status: okStatus(), record }
      },
      (status) => ({ status, record: undefined }),
    )
  })
  for (const { record } of outcomes) {
    if (record) recordBundle(context, call, { change: verb, bundle: record })
  }
  await context.audit.settled()
  return {
    results: outcomes.map(({ status, record }) => ({
      status,
      bundle: record && maskedBundle(record, outputMask),
    })),
  }
}

async function removeEach(
  context: ApiContext,
  { trustDomains, mode }: BatchDeleteFederatedBundleRequest,
  call: CallContext,
): Promise<BatchDeleteFederatedBundleResponse> {
  const dissolve = dissolutions.get(mode)
  if (!dissolve) {
    const message = `failed to parse deletion mode: unhandled delete mode "${mode}"`
    throw new SentryError('CS_REQUEST_INVALID', message)
  }
  const { value: outcomes } = await context.datastore.write((draft) =>
    eachItem(
      trustDomains,
      (trustDomain) => {
        const { record, entries } = removeOne(context, { draft, trustDomain, dissolve })
        return { status: okStatus(), trustDomain, record, entries }
      },
      (status, trustDomain) => ({ status, trustDomain, record: undefined, entries: [] }),
    ),
  )
  for (const { record, entries } of outcomes) {
    if (record) recordBundle(context, call, { change: 'deleting', bundle: record })
    for (const change of entries) recordEntry(context, call, change)
  }
  await context.audit.settled()
  return { results: outcomes.map(({ status, trustDomain }) => ({ status, trustDomain })) }
}

function removeOne(
  context: ApiContext,
  removal: { readonly draft: Draft; readonly trustDomain: string; readonly dissolve: Dissolution },
): { readonly record: BundleRecord; readonly entries: readonly EntryChange[] } {
  const { draft, dissolve } = removal
  const trustDomain = named(removal.trustDomain)
  if (trustDomain === context.trustDomain) {
    const message = 'removing the bundle for the server trust domain is not allowed'
    throw new SentryError('CS_REQUEST_INVALID', message)
  }
  const bundles = draft.table(bundleTable)
  const record = bundles.get(trustDomain)
  if (!record) throw bundleMissing()
  const entries = dissolve(draft, trustDomain)
  bundles.remove(trustDomain)
  return { record, entries }
}

/** What becomes of the entries that federate with a bundle that goes. */
type Dissolution = (draft: Draft, trustDomain: TrustDomain) => readonly EntryChange[]

const dissolutions: ReadonlyMap<number, Dissolution> = new Map<number, Dissolution>([
  [
    Mode.RESTRICT,
    (draft, trustDomain) => {
      const { length } = draft.table(entryTable).by('federates-with', trustDomain)
      if (length === 0) return []
      const message = `cannot delete bundle; federated with ${length} registration entries`
      throw new SentryError('CS_BUNDLE_IN_USE', `failed to delete federated bundle: ${message}`)
    },
  ],
  [
    Mode.DELETE,
    (draft, trustDomain) => {
      const entries = draft.table(entryTable)
      return entries.by('federates-with', trustDomain).map((entry): EntryChange => {
        entries.remove(entry.id)
        return { change: 'deleted', entry }
      })
    },
  ],
  [
    Mode.DISSOCIATE,
    (draft, trustDomain) => {
      const entries = draft.table(entryTable)
      return entries.by('federates-with', trustDomain).map((held): EntryChange => {
        const federatesWith = held.federatesWith.filter((name) => name !== trustDomain)
        const entry = { ...held, federatesWith, revision: held.revision + 1n }
        entries.put(entry)
        return { change: 'updated', entry }
      })
    },
  ],
])

function convert(wire: Bundle, options: Parameters<typeof bundleFromWire>[1]): BundleRecord {
  return prefixed('failed to convert bundle', () => bundleFromWire(wire, options))
}

function foreign(context: ApiContext, text: string, verb: string): TrustDomain {
  const trustDomain = named(text)
  if (trustDomain !== context.trustDomain) return trustDomain
  throw new SentryError(
    'CS_REQUEST_INVALID',
    `${verb} a federated bundle for the server's own trust domain is not allowed`,
  )
}

function named(text: string): TrustDomain {
  return prefixed('trust domain argument is not valid', () => trustDomainFromWire(text))
}

function bundleMissing(): SpiffeError {
  return new SpiffeError('CS_BUNDLE_NOT_FOUND', 'bundle not found')
}

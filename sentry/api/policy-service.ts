import { createHash } from 'node:crypto'
import {
  type ApplyResponse,
  type DeleteResponse,
  type DocumentRef,
  type ListRequest,
  type PolicyAdminServer,
  PolicyAdminService,
  type SignedSnapshot,
  type StatusResponse,
  type StoredDocument,
} from '../../proto/gen/countersign/policy/v1/policy.js'
import { parseSpiffeId } from '../../spiffe/index.js'
import { SentryError } from '../errors.js'
import { latch } from '../latch.js'
import type { DocumentOutcome, Policies, PolicyChange } from '../policy/policies.js'
import { nameOfDocument, type PolicyDocument, policyTargetTable } from '../policy/policy-record.js'
import type { ReportBook } from '../policy/reports.js'
import type { SnapshotSigner } from '../policy/snapshot-signer.js'
import { entryTable } from '../registration/entry.js'
import type { Authorization } from './authorization.js'
import { nameOf } from './caller.js'
import type { ApiContext } from './context.js'
import { onAbort } from './deadline.js'
import type { CallContext, Conversation, ServerCalls } from './server-calls.js'
import { prefixed } from './wire/prefixed.js'

export interface PolicyServiceOptions {
  readonly api: ApiContext
  readonly policies: Policies
  readonly signer: SnapshotSigner
  readonly reports: ReportBook
  readonly authorization: Authorization
}

/** `countersign.policy.v1.PolicyAdmin`. */
export function policyService(
  options: PolicyServiceOptions,
  calls: ServerCalls,
): PolicyAdminServer {
  const { policies } = options
  return {
    apply: calls.unary(async ({ text, source, dryRun }, call): Promise<ApplyResponse> => {
      const change = await policies.apply({ text, source, dryRun })
      if (!dryRun) await record(options.api, call, change)
      return { ...answer(change), outcomes: change.outcomes.map(outcomeToWire) }
    }),
    list: calls.unary((request) => ({
      documents: policies.documents().filter(asked(request)).map(documentToWire),
    })),
    delete: calls.unary(async ({ refs }, call): Promise<DeleteResponse> => {
      const change = await policies.remove(refs)
      await record(options.api, call, change)
      return answer(change)
    }),
    watchStatus: calls.serverStream((_, stream) => watchStatus(options, stream)),
    getSnapshot: calls.unary(({ target }) => getSnapshot(options, target)),
  }
}

function answer({ sequence, changedTargets }: PolicyChange): DeleteResponse {
  return { sequence: BigInt(sequence), changedTargets: new Map(changedTargets) }
}

async function getSnapshot(
  { policies, signer }: PolicyServiceOptions,
  text: string,
): Promise<SignedSnapshot> {
  const target = prefixed('target is not valid', () => parseSpiffeId(text))
  // Whoever has just created the entry sees what follows from it.
  await policies.settled()
  const snapshot = policies.snapshotOf(target)
  if (!snapshot) throw new SentryError('CS_POLICY_NOT_FOUND', `${target} is not a target`)
  return signer.under(snapshot).signed()
}

/** What the status is made of. */
const concerned = new Set([policyTargetTable.kind, entryTable.kind])

/** The whole state at first and whenever it changed; what changes faster than it is read goes in one. */
async function watchStatus(
  { api, policies, reports, authorization }: PolicyServiceOptions,
  stream: Conversation<never, StatusResponse>,
): Promise<void> {
  const changed = latch({ opened: true })
  const stops = [
    reports.onChange(() => changed.open()),
    api.datastore.onChange((changes) => {
      if (changes.some(({ table }) => concerned.has(table.kind))) changed.open()
    }),
    onAbort(stream.signal, () => changed.open()),
    onAbort(api.stopping, () => changed.open()),
  ]
  let last = ''
  try {
    for (await changed.passed(); !stream.signal.aborted; await changed.passed()) {
      api.stopping.throwIfAborted()
      // A stream outlives the right to it.
      await authorization.admit(PolicyAdminService.watchStatus.path, stream.caller)
      const status = statusOf(policies, reports)
      const shown = JSON.stringify(status, (_, value: unknown) =>
        typeof value === 'bigint' ? String(value) : value,
      )
      if (shown !== last) await stream.write(status)
      last = shown
    }
  } finally {
    for (const stop of stops) stop()
  }
}

function statusOf(policies: Policies, reports: ReportBook): StatusResponse {
  return {
    targets: policies
      .snapshots()
      .map(({ target, id, generation }) => ({ target, snapshotId: id, generation })),
    proxies: reports.all().map(({ report, agent, reportedAt, connected }) => ({
      report,
      agent,
      reportedAt: BigInt(Math.floor(reportedAt / 1000)),
      connected,
    })),
  }
}

function asked({ kind, namespace, name }: ListRequest): (document: PolicyDocument) => boolean {
  return ({ ref }) =>
    (kind === '' || ref.kind === kind) &&
    (namespace === '' || ref.namespace === namespace) &&
    (name === '' || ref.name === name)
}

function outcomeToWire({ document, change }: DocumentOutcome) {
  return { ref: refToWire(document.ref), change, revision: document.revision }
}

function documentToWire({ ref, json, revision, updatedAt }: PolicyDocument): StoredDocument {
  return {
    ref: refToWire(ref),
    json,
    revision,
    updatedAt: BigInt(Math.floor(updatedAt / 1000)),
  }
}

function refToWire({ kind, namespace, name }: PolicyDocument['ref']): DocumentRef {
  return { kind, namespace, name }
}

/** What is stored leaves its record, also when not everything that follows from it is compiled. */
async function record(
  { audit }: ApiContext,
  { caller }: CallContext,
  { outcomes, failure }: PolicyChange,
): Promise<void> {
  for (const { document, change } of outcomes) {
    if (change === 'unchanged') continue
    audit.record({
      type: 'policy.changed.v1',
      subject: nameOfDocument(document.ref),
      requester: nameOf(caller),
      details: {
        change,
        revision: String(document.revision),
        sha256: createHash('sha256').update(document.json).digest('hex'),
      },
    })
  }
  await audit.settled()
  if (failure !== undefined) throw failure as Error
}

import type { Clock } from '../../platform/clock.js'
import type { Log } from '../../platform/log.js'
import type { SpiffeId } from '../../spiffe/index.js'
import type { Datastore } from '../datastore/datastore.js'
import type { Draft } from '../datastore/draft.js'
import { SentryError } from '../errors.js'
import type { AdmittedDocument, DocumentRef, PolicyCompiler } from './compiler.js'
import {
  nameOfDocument,
  type PolicyDocument,
  type PolicyTarget,
  policyTable,
  policyTargetTable,
} from './policy-record.js'
import { targetIndex } from './targets.js'

export interface DocumentOutcome {
  readonly document: PolicyDocument
  readonly change: 'created' | 'updated' | 'unchanged' | 'deleted'
}

export interface PolicyChange {
  readonly outcomes: readonly DocumentOutcome[]
  /** Position of the log that holds all of it, snapshots included. */
  readonly sequence: number
  /** Targets whose snapshot changed, and its new id. */
  readonly changedTargets: ReadonlyMap<SpiffeId, string>
  /** Why some snapshots are still those of before, although the documents are stored; it is tried again. */
  readonly failure: unknown
}

/** The policy documents, and what each target is to enforce by them. */
export interface Policies {
  /** All documents of the text or none. Throws what the compiler throws. */
  apply(request: {
    readonly text: string
    readonly source: string
    readonly dryRun: boolean
  }): Promise<PolicyChange>
  /** All of them or none. Throws `CS_POLICY_NOT_FOUND`, or what the compiler throws for what is still needed. */
  remove(refs: readonly DocumentRef[]): Promise<PolicyChange>
  documents(): readonly PolicyDocument[]
  /** What the target is to enforce; undefined for one that no entry names, or not yet. */
  snapshotOf(target: SpiffeId): PolicyTarget | undefined
  snapshots(): readonly PolicyTarget[]
  /** Compiles what changed while nobody looked: after a crash, or a new version of the compiler. */
  catchUp(): Promise<void>
  /** Compiles what could not be stored when it was due. */
  compileDue(): Promise<void>
  /** Resolves when everything that follows from changes up to now is compiled. */
  settled(): Promise<void>
}

export interface PoliciesOptions {
  readonly datastore: Datastore
  readonly compiler: PolicyCompiler
  readonly clock: Clock
  readonly log: Log
}

/** Targets that are compiled and stored at once. */
const SLICE = 100

export function policies(options: PoliciesOptions): Policies {
  const { datastore, compiler, log } = options
  const index = targetIndex(datastore, (target) => compiler.keysOfTarget(target))
  const stored = datastore.view(policyTargetTable)
  const due = new Set<SpiffeId>()
  let compiling: Promise<unknown> = Promise.resolve()

  const compile = async (): Promise<void> => {
    while (due.size > 0) {
      const slice = [...due].slice(0, SLICE)
      for (const target of slice) due.delete(target)
      try {
        await datastore.write((draft) => {
          for (const target of slice) compileTarget(draft, { ...options, target })
        })
      } catch (error) {
        // Without it, a policy that is stored would not be enforced until somebody changes it again.
        for (const target of slice) due.add(target)
        throw error
      }
    }
  }
  const compileInTurn = (targets: Iterable<SpiffeId>): Promise<void> => {
    for (const target of targets) due.add(target)
    const done = compiling.then(compile)
    compiling = done.catch((error: unknown) => {
      log.error({ code: 'CS_DATASTORE_UNAVAILABLE', error }, 'snapshots could not be stored')
    })
    return done
  }
  datastore.onChange((changes) => {
    const fresh = index.follow(changes)
    if (fresh.length > 0) compileInTurn(fresh).catch(() => undefined)
  })

  const change = async (
    decide: (draft: Draft) => readonly Touched[],
    dryRun: boolean,
  ): Promise<PolicyChange> => {
    const before = new Map<SpiffeId, string | undefined>()
    const remember = (touched: readonly Touched[]) => {
      const keys = touched.flatMap((one) => one.keys)
      for (const target of index.under(keys)) before.set(target, stored.get(target)?.id)
      return touched.map(({ document, change }) => ({ document, change }))
    }
    if (dryRun) {
      return datastore.preview((draft) => {
        const outcomes = remember(decide(draft))
        for (const target of before.keys()) compileTarget(draft, { ...options, target })
        const drafted = (target: SpiffeId) => draft.table(policyTargetTable).get(target)
        const changedTargets = changed(before, drafted)
        return { outcomes, sequence: datastore.sequence, changedTargets, failure: undefined }
      })
    }
    const { value: outcomes } = await datastore.write((draft) => remember(decide(draft)))
    for (const target of due) before.set(target, stored.get(target)?.id)
    const failure: unknown = await compileInTurn(before.keys()).catch((error: unknown) => error)
    const changedTargets = changed(before, (target) => stored.get(target))
    return { outcomes, sequence: datastore.sequence, changedTargets, failure }
  }

  return {
    apply: ({ text, source, dryRun }) =>
      change((draft) => admit(draft, { ...options, text, source }), dryRun),
    remove: (refs) => change((draft) => removeDocuments(draft, { compiler, refs }), false),
    documents: () => [...datastore.view(policyTable).values()],
    snapshotOf: (target) => (index.has(target) ? stored.get(target) : undefined),
    snapshots: () => index.all().flatMap((target) => stored.get(target) ?? []),
    async catchUp() {
      await datastore.write((draft) => fileAgain(draft, compiler))
      await compileInTurn(index.all())
    },
    compileDue: () => compileInTurn([]),
    settled: async () => void (await compiling),
  }
}

interface Touched extends DocumentOutcome {
  /** Keys before and after: both decide which targets may have changed. */
  readonly keys: readonly string[]
}

function admit(
  draft: Draft,
  request: PoliciesOptions & { readonly text: string; readonly source: string },
): readonly Touched[] {
  const { compiler, clock, text, source } = request
  const documents = draft.table(policyTable)
  const admitted = compiler.admit({ text, source, existing: [...documents.values()] })
  return admitted.map((document): Touched => {
    const held = documents.get(nameOfDocument(document.ref))
    if (held?.json === document.json) return { document: held, change: 'unchanged', keys: [] }
    const keys = compiler.keysOfDocument(document)
    const updatedAt = clock.now().getTime()
    const made = { ...document, keys, updatedAt, revision: (held?.revision ?? 0n) + 1n }
    documents.put(made)
    return {
      document: made,
      change: held ? 'updated' : 'created',
      keys: [...keys, ...(held?.keys ?? [])],
    }
  })
}

function removeDocuments(
  draft: Draft,
  { compiler, refs }: { readonly compiler: PolicyCompiler; readonly refs: readonly DocumentRef[] },
): readonly Touched[] {
  const documents = draft.table(policyTable)
  const existing = [...documents.values()]
  const touched = refs.map((ref): Touched => {
    const held = documents.get(nameOfDocument(ref))
    if (!held) throw new SentryError('CS_POLICY_NOT_FOUND', `there is no ${nameOfDocument(ref)}`)
    documents.remove(nameOfDocument(ref))
    return { document: held, change: 'deleted', keys: held.keys }
  })
  compiler.admitRemoval({ removed: touched.map(({ document }) => document), existing })
  return touched
}

/** Another version of the compiler may file documents elsewhere. */
function fileAgain(draft: Draft, compiler: PolicyCompiler): void {
  const documents = draft.table(policyTable)
  for (const document of Array.from(documents.values())) {
    const keys = compiler.keysOfDocument(document)
    if (keys.join('\n') !== document.keys.join('\n')) documents.put({ ...document, keys })
  }
}

/** Makes the next generation of the target, if its content is another. A failure keeps the last good one. */
function compileTarget(
  draft: Draft,
  options: PoliciesOptions & { readonly target: SpiffeId },
): void {
  const { compiler, target, log } = options
  const targets = draft.table(policyTargetTable)
  const held = targets.get(target)
  const documents = documentsFor(draft, compiler.keysOfTarget(target))
  try {
    const contentKey = compiler.contentKey({ target, documents })
    if (held?.contentKey === contentKey) return
    const generation = (held?.generation ?? 0n) + 1n
    const { bytes, id } = compiler.snapshot({ target, documents, generation })
    const content = Buffer.from(bytes).toString('utf8')
    targets.put({ target, generation, contentKey, id, content })
  } catch (error) {
    log.error({ code: 'CS_INTERNAL', target, error }, 'snapshot could not be compiled')
  }
}

function documentsFor(draft: Draft, keys: readonly string[]): readonly AdmittedDocument[] {
  const documents = draft.table(policyTable)
  const found = new Map(
    keys.flatMap((key) =>
      documents.by('key', key).map((document) => [nameOfDocument(document.ref), document]),
    ),
  )
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, document]) => document)
}

function changed(
  before: ReadonlyMap<SpiffeId, string | undefined>,
  now: (target: SpiffeId) => PolicyTarget | undefined,
): ReadonlyMap<SpiffeId, string> {
  const found = new Map<SpiffeId, string>()
  for (const [target, id] of before) {
    const next = now(target)?.id
    if (next !== undefined && next !== id) found.set(target, next)
  }
  return found
}

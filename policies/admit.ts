import { PolicyError } from './errors.js'
import type { Deployment } from './evaluate.js'
import { documentKey, documentName, type PolicyDocument } from './policy.js'
import { type CaseResult, runTests } from './run-tests.js'
import { assertEnforceable } from './weight.js'

export interface AdmissionOptions extends Deployment {
  /** What is to be stored; a document replaces the stored one of its kind and name. */
  readonly documents: readonly PolicyDocument[]
  /** What is stored now. */
  readonly existing: readonly PolicyDocument[]
  readonly now: number
}

/**
 * The documents, if all of them may be stored together. Throws `CS_POLICY_DUPLICATE` for two of one
 * name, `CS_POLICY_INVALID` for more than a proxy takes, and `CS_POLICY_TEST_FAILED` when a PolicyTest
 * among them does not hold or a stored one that held would not any more.
 */
export function admitDocuments(options: AdmissionOptions): readonly PolicyDocument[] {
  const { documents, existing } = options
  const changed = byKey(documents)
  const after = [
    ...existing.filter((document) => !changed.has(documentKey(document))),
    ...documents,
  ]
  assertEnforceable(after)
  assertTestsHold(options, { after, changed: new Set(changed.keys()) })
  return documents
}

/** The same for taking documents away. Throws `CS_POLICY_TEST_FAILED`. */
export function admitRemoval(
  options: Deployment & {
    readonly removed: readonly PolicyDocument[]
    readonly existing: readonly PolicyDocument[]
    readonly now: number
  },
): void {
  const gone = new Set(options.removed.map(documentKey))
  const after = options.existing.filter((document) => !gone.has(documentKey(document)))
  assertTestsHold({ ...options, documents: [] }, { after, changed: new Set() })
}

function byKey(documents: readonly PolicyDocument[]): ReadonlyMap<string, PolicyDocument> {
  const found = new Map<string, PolicyDocument>()
  for (const document of documents) {
    const key = documentKey(document)
    if (found.has(key)) {
      const message = `two documents are ${document.kind} ${documentName(document)}`
      throw new PolicyError('CS_POLICY_DUPLICATE', message)
    }
    found.set(key, document)
  }
  return found
}

/** A test that failed before, because a rule has expired since, does not stand in the way of others. */
function assertTestsHold(
  options: AdmissionOptions,
  {
    after,
    changed,
  }: { readonly after: readonly PolicyDocument[]; readonly changed: ReadonlySet<string> },
): void {
  const failures = failuresOf({ ...options, documents: after })
  if (failures.length === 0) return
  const before = new Set(failuresOf({ ...options, documents: options.existing }).map(caseKey))
  const isNew = (result: CaseResult) =>
    changed.has(`PolicyTest ${result.test}`) || !before.has(caseKey(result))
  const [first, ...more] = failures.filter(isNew)
  if (first === undefined) return
  const rest = more.length === 0 ? '' : ` (and ${more.length} more)`
  throw new PolicyError(
    'CS_POLICY_TEST_FAILED',
    `PolicyTest ${first.test}, case ${first.number}: ${first.failure}${rest}`,
  )
}

const caseKey = ({ test, number }: CaseResult) => `${test} ${number}`

const failuresOf = (options: Parameters<typeof runTests>[0]) =>
  runTests(options).results.filter(({ failure }) => failure !== undefined)

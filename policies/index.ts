/**
 * Who may call what: documents, the snapshots made of them, the decision, and the tools on both.
 * Pure: no input or output, no clock, no chance.
 */
export { type AdmissionOptions, admitDocuments, admitRemoval } from './admit.js'
export { type BindOptions, type BoundCaller, bindCaller } from './bind.js'
export {
  type CanonicalRequest,
  canonicalise,
  type Malformed,
  type MalformedCode,
  type RawRequest,
} from './canonical.js'
export type { CompiledPolicy } from './compile.js'
export { compileSnapshot } from './compile-snapshot.js'
export { type AccessRequest, decide, type RawConnection, rawConnection } from './decide.js'
export {
  type AllowDecision,
  type Decision,
  type DenyDecision,
  malformedDecision,
  type ShadowVerdict,
} from './decision.js'
export { documentToJson } from './document-json.js'
export {
  decisionReasons,
  PolicyError,
  type PolicyErrorCode,
  type Problem,
  policyReasons,
  problemText,
} from './errors.js'
export { type Answer, answersTo, compiledFor, type Deployment, type Question } from './evaluate.js'
export {
  type Candidate,
  type Cause,
  type Explanation,
  explain,
  type FailedCondition,
  type Layer,
} from './explain.js'
export { connectionNames, type HeaderRules, removesHeader } from './headers.js'
export { normaliseHost } from './host.js'
export { type App, appOfId, idOfApp, type Layout, layouts, localAppOf } from './layout.js'
export { documentFromJson, parseDocuments } from './parse.js'
export { authorize, type Permit, type Verdict } from './permit.js'
export {
  type AccessPolicy,
  documentKey,
  documentName,
  type Guardrail,
  type Operation,
  type PolicyDocument,
  type PolicyTest,
  type Rule,
  type Selector,
  type TestCall,
  type TestCase,
  type UnauthenticatedDetail,
} from './policy.js'
export {
  type CaseResult,
  type RuleCoverage,
  ruleOf,
  runTests,
  type TestRun,
  type TestRunOptions,
} from './run-tests.js'
export type { Aliases } from './selectors.js'
export {
  type BuiltSnapshot,
  buildSnapshot,
  reaches,
  type Snapshot,
  type SnapshotContent,
  type SnapshotPolicy,
  type SnapshotRule,
  snapshotContentKey,
} from './snapshot.js'
export { readSnapshot } from './snapshot-read.js'
export type { Suggestion } from './suggest.js'

import { parseSpiffeId, type SpiffeId } from '../spiffe/index.js'
import type { CompiledPolicy } from './compile.js'
import type { Decision } from './decision.js'
import { type Answer, answersTo, compiledFor, type Deployment, requestOf } from './evaluate.js'
import { idOfApp } from './layout.js'
import { conditions, type LinearQuestion, linearRules } from './linear.js'
import { documentName, type PolicyDocument, type PolicyTest, type TestCase } from './policy.js'

export interface TestRun {
  readonly results: readonly CaseResult[]
  /** Every rule of every document, the least covered first. */
  readonly coverage: readonly RuleCoverage[]
  readonly failed: number
}

export interface CaseResult {
  /** `<namespace>/<name>` of the PolicyTest. */
  readonly test: string
  /** Counted from 1. */
  readonly number: number
  readonly expected: TestCase
  /** One for each port that is tried. */
  readonly answers: readonly Answer[]
  /** Why the case fails, or `undefined`. */
  readonly failure: string | undefined
}

export interface RuleCoverage {
  readonly kind: 'AccessPolicy' | 'Guardrail'
  /** `<namespace>/<name>`, or the bare name of a guardrail. */
  readonly document: string
  readonly rule: string
  /** Cases that the rule matches. */
  readonly matched: number
  /** Cases that it decides. */
  readonly decided: number
}

export interface TestRunOptions extends Deployment {
  /** The policies to try, and the tests among them. */
  readonly documents: readonly PolicyDocument[]
  readonly now: number
}

/** Holds every case of every PolicyTest against the documents. */
export function runTests(options: TestRunOptions): TestRun {
  const { documents } = options
  const targets = new Map<SpiffeId, CompiledPolicy>()
  const policyFor = (target: SpiffeId): CompiledPolicy => {
    const known = targets.get(target) ?? compiledFor(target, options)
    targets.set(target, known)
    return known
  }
  const tally = tallyOf(documents)
  const results = documents
    .filter((document) => document.kind === 'PolicyTest')
    .flatMap((test) =>
      test.cases.map((_, at) => runCase({ ...options, test, at, policyFor, tally })),
    )
  return {
    results,
    coverage: tally.coverage(),
    failed: results.filter(({ failure }) => failure !== undefined).length,
  }
}

/** The ID that a case calls. */
export function targetOfCase(
  { layout, trustDomain }: Deployment,
  { namespace, app }: { readonly namespace: string; readonly app: string },
): SpiffeId {
  return idOfApp(layout, trustDomain, { namespace, app })
}

interface CaseRun extends Deployment {
  readonly test: PolicyTest
  readonly at: number
  readonly now: number
  readonly policyFor: (target: SpiffeId) => CompiledPolicy
  readonly tally: Tally
}

function runCase(run: CaseRun): CaseResult {
  const { test, at, now, policyFor, tally } = run
  const expected = test.cases[at]
  if (expected === undefined) throw new RangeError('no such case')
  const policy = policyFor(targetOfCase(run, { namespace: test.namespace, app: expected.app }))
  const caller = expected.from === 'unauthenticated' ? undefined : parseSpiffeId(expected.from)
  const answers = answersTo(policy, { caller, call: expected.call, port: expected.port, now })
  const request = requestOf(expected.call)
  if (!('malformed' in request)) {
    const questions = answers.map(({ port }) => ({ caller, port, request, now }))
    tally.add(policy, { questions, decisions: answers.map(({ decision }) => decision) })
  }
  return {
    test: documentName(test),
    number: at + 1,
    expected,
    answers,
    failure: failureOf(expected, answers),
  }
}

function failureOf({ expect, rule }: TestCase, answers: readonly Answer[]): string | undefined {
  const wrong = answers.find(({ decision }) => decision.effect !== expect)
  if (wrong !== undefined) {
    const differs = answers.some(({ decision }) => decision.effect === expect)
    const where = differs ? ` on port ${wrong.port ?? 'other'}` : ''
    return `expected ${expect}, got ${wordsOf(wrong.decision)}${where}`
  }
  const other = answers.find(({ decision }) => rule !== undefined && ruleOf(decision) !== rule)
  return other && `expected ${expect} by ${rule}, got ${wordsOf(other.decision)}`
}

/** `<policy>/<rule>` that decided, or `undefined`. */
export function ruleOf(decision: Decision): string | undefined {
  return 'rule' in decision ? `${decision.policy}/${decision.rule}` : undefined
}

function wordsOf(decision: Decision): string {
  const rule = ruleOf(decision)
  return `${decision.effect} (${decision.reason}${rule === undefined ? '' : ` ${rule}`})`
}

interface Tally {
  add(
    policy: CompiledPolicy,
    seen: {
      readonly questions: readonly LinearQuestion[]
      readonly decisions: readonly Decision[]
    },
  ): void
  coverage(): readonly RuleCoverage[]
}

/** Counts, for each rule, the cases that touch it. A case counts once, on however many ports it is tried. */
function tallyOf(documents: readonly PolicyDocument[]): Tally {
  const counts = new Map<string, { matched: number; decided: number }>()
  const keyOf = (kind: string, document: string, rule: string) => `${kind} ${document} ${rule}`
  return {
    add({ snapshot }, { questions, decisions }) {
      const decisive = new Set(decisions.map(ruleOf))
      for (const candidate of linearRules(snapshot)) {
        const matches = questions.some((question) =>
          conditions.every(({ holds }) => holds(candidate, question, snapshot.aliases)),
        )
        if (!matches) continue
        const { kind, name } = candidate.policy
        const document = kind === 'Guardrail' ? name : `${snapshot.app.app?.namespace}/${name}`
        const key = keyOf(kind, document, candidate.rule.name)
        const count = counts.get(key) ?? { matched: 0, decided: 0 }
        count.matched++
        if (!candidate.shadow && decisive.has(`${name}/${candidate.rule.name}`)) count.decided++
        counts.set(key, count)
      }
    },
    coverage: () =>
      documents
        .filter((document) => document.kind !== 'PolicyTest')
        .flatMap((document) =>
          document.rules.map((rule) => {
            const { kind } = document
            const name = documentName(document)
            const count = counts.get(keyOf(kind, name, rule.name)) ?? { matched: 0, decided: 0 }
            return { kind, document: name, rule: rule.name, ...count }
          }),
        )
        .sort((left, right) => left.matched - right.matched),
  }
}

import { pathOf, type SpiffeId, trustDomainOf } from '../spiffe/index.js'
import { byBytes } from './canonical-json.js'
import type { AccessRequest } from './decide.js'
import type { Decision, ShadowVerdict } from './decision.js'
import type { Operation, UnauthenticatedDetail } from './policy.js'
import type { Aliases, Source } from './selectors.js'
import type { Snapshot, SnapshotPolicy, SnapshotRule } from './snapshot.js'

/** One question to the reference. */
export interface LinearQuestion {
  readonly caller: SpiffeId | undefined
  readonly unauthenticatedBecause?: UnauthenticatedDetail
  readonly port: number | undefined
  readonly request: AccessRequest
  readonly now: number
}

/** A rule of a snapshot together with what it inherits from its document. */
export interface LinearRule {
  readonly class: 'guardrail' | 'deny' | 'allow'
  readonly policy: SnapshotPolicy
  readonly rule: SnapshotRule
  readonly shadow: boolean
}

/**
 * The language read aloud: every rule is held against the request, one condition after the other.
 * Slow on purpose and without a line of the compiler, so that it can tell when the compiler is wrong.
 */
export function linearPolicy(snapshot: Snapshot): (question: LinearQuestion) => Decision {
  const rules = linearRules(snapshot)
  return (question) => {
    const matching = rules.filter((candidate) =>
      conditions.every((condition) => condition.holds(candidate, question, snapshot.aliases)),
    )
    const decision = decisionBy(lowest(matching.filter(({ shadow }) => !shadow)), question)
    const tried = lowest(matching.filter(({ shadow }) => shadow))
    if (tried === undefined) return decision
    const shadow = shadowVerdict(decision, { both: lowest(matching), tried })
    return { ...decision, shadow } as Decision
  }
}

export function linearRules({ policies, guardrails, shadow }: Snapshot): readonly LinearRule[] {
  const rulesOf = (isShadow: boolean) => (policy: SnapshotPolicy) =>
    policy.rules.map((rule): LinearRule => {
      const ruleClass = policy.kind === 'Guardrail' ? 'guardrail' : rule.action
      return { class: ruleClass, policy, rule, shadow: isShadow }
    })
  return [...[...guardrails, ...policies].flatMap(rulesOf(false)), ...shadow.flatMap(rulesOf(true))]
}

/** What a rule asks for, in the order in which `explain` names the first that fails. */
export type ConditionName = 'port' | 'from' | 'protocol' | 'method' | 'path' | 'validity'

export interface Condition {
  readonly name: ConditionName
  holds(candidate: LinearRule, question: LinearQuestion, aliases: Aliases): boolean
}

/** All of these must hold. Each of the middle three holds for an operation that fits up to there. */
export const conditions: readonly Condition[] = [
  { name: 'port', holds: (rule, { port }) => portMatches(rule, port) },
  {
    name: 'from',
    holds: ({ rule }, { caller }, aliases) =>
      rule.from.some((source) => sourceMatches(source, caller, aliases)),
  },
  { name: 'protocol', holds: (rule, question) => someOperation(rule, question, 'protocol') },
  { name: 'method', holds: (rule, question) => someOperation(rule, question, 'method') },
  { name: 'path', holds: (rule, question) => someOperation(rule, question, 'path') },
  {
    name: 'validity',
    holds: ({ rule: { notBefore, expires } }, { now }) =>
      (notBefore === undefined || now >= notBefore) && (expires === undefined || now < expires),
  },
]

function portMatches(
  { class: ruleClass, policy: { ports } }: LinearRule,
  port: number | undefined,
): boolean {
  if (ports === undefined) return true
  return port === undefined ? ruleClass !== 'allow' : ports.includes(port)
}

export function sourceMatches(
  source: Source,
  caller: SpiffeId | undefined,
  aliases: Aliases,
): boolean {
  if (caller === undefined) return source === 'unauthenticated'
  if (source === 'any') return true
  if (!source.includes('{') && aliases.size === 0) return source === caller
  const parts = /^spiffe:\/\/([^/]+)\/(.+)$/.exec(source)
  if (parts === null) return false
  const [, name = '', pattern = ''] = parts
  const trustDomain = trustDomainOf(caller)
  const group = aliases.get(name)
  const isMember = group === undefined ? name === trustDomain : group.includes(trustDomain)
  return isMember && segmentsMatch(pattern.split('/'), pathOf(caller).split('/').slice(1))
}

function someOperation(
  { class: ruleClass, rule }: LinearRule,
  { request }: LinearQuestion,
  upTo: 'protocol' | 'method' | 'path',
): boolean {
  const { to } = rule
  if (to === undefined) return true
  const denies = ruleClass !== 'allow'
  if (request.kind === 'tcp') return denies || to.some(({ kind }) => kind === 'tcp')
  return to.some((operation) => {
    if (operation.kind === 'tcp') return false
    if (upTo === 'protocol') return true
    if (!methodMatches(operation, request.method)) return false
    return upTo === 'method' || matchingPattern(operation, { path: request.path, denies }) !== NONE
  })
}

function methodMatches(operation: Operation, method: string): boolean {
  if (operation.kind !== 'http' || operation.methods === undefined) return true
  const { methods } = operation
  return methods.includes(method) || (method === 'HEAD' && methods.includes('GET'))
}

const NONE = Symbol('no pattern matches')

/** The first pattern of an operation that matches; `undefined` when it is not about paths. */
function matchingPattern(
  operation: Operation,
  about: { readonly path: string; readonly denies: boolean },
): string | undefined | typeof NONE {
  if (operation.kind === 'tcp') return NONE
  const patterns = operation.kind === 'grpc' ? operation.methods : operation.paths
  if (patterns === undefined) return undefined
  const isGrpc = operation.kind === 'grpc'
  const found = patterns.find((pattern) =>
    pathMatches(isGrpc ? `/${pattern.replace(/\/\*$/, '/{*}')}` : pattern, about),
  )
  return found ?? NONE
}

function pathMatches(
  pattern: string,
  { path, denies }: { readonly path: string; readonly denies: boolean },
): boolean {
  if (path === '*') return false
  if (segmentsMatch(segmentsOf(pattern), segmentsOf(path))) return true
  return denies && segmentsMatch(folded(pattern), folded(path))
}

const segmentsOf = (path: string) => path.replace(/\/$/, '').split('/').slice(1)

function folded(path: string): readonly string[] {
  return segmentsOf(path)
    .map((segment) => {
      const plain = segment.replace(/%([2-7][0-9A-F])/g, (escape, hex: string) => {
        const code = Number.parseInt(hex, 16)
        return code > 0x20 && code < 0x7f ? String.fromCharCode(code) : escape
      })
      return plain.toLowerCase().replace(/(\.|%20)+$/, '')
    })
    .filter((segment) => segment !== '')
}

function segmentsMatch(pattern: readonly string[], path: readonly string[]): boolean {
  if (pattern.at(-1) === '{**}') {
    const before = pattern.slice(0, -1)
    return path.length >= before.length && segmentsMatch(before, path.slice(0, before.length))
  }
  return (
    pattern.length === path.length &&
    pattern.every((segment, at) => segment === '{*}' || segment === path[at])
  )
}

const classes = ['guardrail', 'deny', 'allow']

/** `<policy>/<rule>`. */
export const labelOf = ({ policy, rule }: LinearRule) => `${policy.name}/${rule.name}`

function lowest(rules: readonly LinearRule[]): LinearRule | undefined {
  return [...rules].sort(
    (left, right) =>
      classes.indexOf(left.class) - classes.indexOf(right.class) ||
      byBytes(labelOf(left), labelOf(right)),
  )[0]
}

function decisionBy(found: LinearRule | undefined, question: LinearQuestion): Decision {
  const { caller, unauthenticatedBecause: detail = 'no-certificate' } = question
  if (found === undefined) {
    return caller === undefined
      ? { effect: 'deny', reason: 'unauthenticated', detail, shadow: undefined }
      : { effect: 'deny', reason: 'no-rule', shadow: undefined }
  }
  const by = {
    policy: found.policy.name,
    rule: found.rule.name,
    pattern: patternOf(found, question),
    shadow: undefined,
  }
  if (found.class === 'allow') return { effect: 'allow', reason: 'allow-rule', ...by }
  return { effect: 'deny', reason: found.class === 'deny' ? 'deny-rule' : 'guardrail', ...by }
}

function patternOf(found: LinearRule, { request }: LinearQuestion): string | undefined {
  if (request.kind === 'tcp') return undefined
  const about = { path: request.path, denies: found.class !== 'allow' }
  const patterns = (found.rule.to ?? [])
    .filter((operation) => methodMatches(operation, request.method))
    .map((operation) => matchingPattern(operation, about))
    .filter((pattern) => pattern !== NONE)
  return patterns[0]
}

function shadowVerdict(
  decision: Decision,
  { both, tried }: { readonly both: LinearRule | undefined; readonly tried: LinearRule },
): ShadowVerdict {
  const effect = both?.class === 'allow' ? 'allow' : 'deny'
  const changed = effect === 'allow' ? 'would_allow' : 'would_deny'
  const direction = effect === decision.effect ? undefined : changed
  return { effect, direction, policy: tried.policy.name, rule: tried.rule.name }
}

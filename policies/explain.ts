import { pathOf, type SpiffeId, trustDomainOf } from '../spiffe/index.js'
import { isMethod } from './canonical.js'
import type { CompiledPolicy } from './compile.js'
import type { AccessRequest } from './decide.js'
import type { Decision } from './decision.js'
import { answersTo, portsAsked, type Question, requestOf } from './evaluate.js'
import {
  type ConditionName,
  conditions,
  type LinearQuestion,
  type LinearRule,
  labelOf,
  linearRules,
} from './linear.js'
import { distanceTo } from './nearest-miss.js'
import type { UnauthenticatedDetail } from './policy.js'
import { type Suggestion, suggestRule } from './suggest.js'

/** Why a call is decided as it is, and what stands nearest to another answer. */
export interface Explanation {
  readonly target: SpiffeId
  readonly caller: SpiffeId | undefined
  readonly port: number | undefined
  /** The call as it was decided on. */
  readonly canonical: AccessRequest | { readonly malformed: string }
  readonly decision: Decision
  readonly cause: Cause
  /** The layers in the order in which they were asked. */
  readonly layers: readonly Layer[]
  /** Every rule of the target: those that match, then by how much is missing. */
  readonly candidates: readonly Candidate[]
  /** The allow rule that misses by least, when nothing allows. */
  readonly nearest: Candidate | undefined
  /** The smallest rule that would allow the call, when the lack of one is what stands in the way. */
  readonly suggestion: Suggestion | undefined
}

/** One word for why; finer than the reason of the decision. */
export type Cause =
  | 'allow-rule'
  | 'deny-rule'
  | 'guardrail'
  | 'no-rule'
  | 'other-trust-domain'
  | 'malformed'
  | UnauthenticatedDetail

export interface Layer {
  readonly name: LinearRule['class']
  readonly rules: number
  readonly matching: number
}

export interface Candidate {
  readonly class: LinearRule['class']
  /** `<policy>/<rule>`. */
  readonly rule: string
  readonly shadow: boolean
  /** `undefined` when the rule matches. */
  readonly failed: FailedCondition | undefined
}

/** The first condition that does not hold. */
export interface FailedCondition {
  readonly name: ConditionName
  readonly wanted: string
  readonly found: string
}

/**
 * Explains the answer on one port: the one asked about, or the first that the policies name. The
 * decision itself is the engine's; what is said about the rules is the linear reference's.
 */
export function explain(policy: CompiledPolicy, asked: Question): Explanation {
  const { snapshot } = policy
  const [port] = portsAsked(snapshot, asked.port)
  const question = { ...asked, port }
  const [answer] = answersTo(policy, question)
  if (answer === undefined) throw new RangeError('no answer')
  const { decision } = answer
  const canonical = requestOf(asked.call)
  const base = { target: snapshot.target, caller: asked.caller, port, canonical, decision }
  if ('malformed' in canonical) {
    return {
      ...base,
      cause: 'malformed',
      layers: [],
      candidates: [],
      nearest: undefined,
      suggestion: undefined,
    }
  }
  const judged = judge(policy, { ...question, request: canonical })
  const missing = decision.reason === 'no-rule' || decision.reason === 'unauthenticated'
  const nearest = missing ? judged.find(isNearMiss) : undefined
  return {
    ...base,
    cause: causeOf(decision, { nearest, caller: asked.caller }),
    layers: layersOf(judged),
    candidates: judged.map(candidateOf),
    nearest: nearest && candidateOf(nearest),
    suggestion: missing ? suggestRule(snapshot, { ...question, request: canonical }) : undefined,
  }
}

interface Judged {
  readonly rule: LinearRule
  readonly failed: FailedCondition | undefined
  readonly distance: number
}

/** Every rule with its first failed condition, the nearest first. */
function judge({ snapshot }: CompiledPolicy, question: LinearQuestion): readonly Judged[] {
  const { aliases } = snapshot
  return linearRules(snapshot)
    .map((rule) => {
      const failing = conditions.filter(({ holds }) => !holds(rule, question, aliases))
      const [first] = failing
      const failed = first && failedCondition(first.name, rule, question)
      return { rule, failed, distance: distanceTo(rule, { question, failing }) }
    })
    .sort((left, right) => left.distance - right.distance)
}

const isNearMiss = ({ rule, failed }: Judged) =>
  failed !== undefined && rule.class === 'allow' && !rule.shadow

function candidateOf({ rule, failed }: Judged): Candidate {
  return { class: rule.class, rule: labelOf(rule), shadow: rule.shadow, failed }
}

function layersOf(judged: readonly Judged[]): readonly Layer[] {
  return (['guardrail', 'deny', 'allow'] as const).map((name) => {
    const rules = judged.filter(({ rule }) => rule.class === name && !rule.shadow)
    const matching = rules.filter(({ failed }) => failed === undefined).length
    return { name, rules: rules.length, matching }
  })
}

function causeOf(
  decision: Decision,
  {
    nearest,
    caller,
  }: { readonly nearest: Judged | undefined; readonly caller: SpiffeId | undefined },
): Cause {
  switch (decision.reason) {
    case 'allow-rule':
    case 'deny-rule':
    case 'guardrail':
      return decision.reason
    case 'unauthenticated':
      return decision.detail
    case 'no-rule':
      return caller !== undefined && isOfOtherTrustDomain(nearest, caller)
        ? 'other-trust-domain'
        : 'no-rule'
    default:
      return 'no-rule'
  }
}

/** Whether the nearest rule names the same workload in another trust domain, and only that is wrong. */
function isOfOtherTrustDomain(nearest: Judged | undefined, caller: SpiffeId): boolean {
  if (nearest?.failed?.name !== 'from') return false
  const own = trustDomainOf(caller)
  return nearest.rule.rule.from.some(
    (source) => source.endsWith(pathOf(caller)) && !source.startsWith(`spiffe://${own}/`),
  )
}

function failedCondition(
  name: ConditionName,
  { policy, rule }: LinearRule,
  { caller, port, request, now }: LinearQuestion,
): FailedCondition {
  const operations = rule.to ?? []
  switch (name) {
    case 'port':
      return {
        name,
        wanted: (policy.ports ?? []).join(', '),
        found: port === undefined ? 'none' : String(port),
      }
    case 'from':
      return { name, wanted: rule.from.join(', '), found: caller ?? 'unauthenticated' }
    case 'protocol':
      return {
        name,
        wanted: [...new Set(operations.map(({ kind }) => kind))].join(', '),
        found: request.kind,
      }
    case 'method': {
      const methods = operations.flatMap((operation) =>
        operation.kind === 'http' ? (operation.methods ?? []) : [],
      )
      return { name, wanted: [...new Set(methods)].join(', '), found: methodOf(request) }
    }
    case 'path':
      return {
        name,
        wanted: operations.flatMap((operation) => patternsFor(operation, request)).join(', '),
        found: request.kind === 'http' ? request.path : '',
      }
    case 'validity': {
      const { notBefore, expires } = rule
      const starts = notBefore !== undefined && now < notBefore
      const at = starts ? notBefore : (expires ?? now)
      const wanted = `${starts ? 'from' : 'before'} ${isoTime(at)}`
      return { name, wanted, found: isoTime(now) }
    }
  }
}

const isoTime = (at: number) => new Date(at).toISOString()
const methodOf = (request: AccessRequest) => (request.kind === 'http' ? request.method : '')

/** The patterns of an operation that takes the request's method. */
function patternsFor(
  operation: NonNullable<LinearRule['rule']['to']>[number],
  request: AccessRequest,
): readonly string[] {
  switch (operation.kind) {
    case 'grpc':
      return operation.methods
    case 'tcp':
      return []
    case 'http': {
      const { methods, paths } = operation
      const method = methodOf(request)
      const fits =
        methods === undefined ||
        methods.includes(method) ||
        (method === 'HEAD' && methods.includes('GET'))
      return fits && isMethod(method) ? (paths ?? []) : []
    }
  }
}

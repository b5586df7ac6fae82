import type { BoundCaller, Plan } from './bind.js'
import type { CanonicalRequest } from './canonical.js'
import type { CompiledPolicy, CompiledRule, Sector } from './compile.js'
import type { AllowDecision, Decision, DenyDecision, ShadowVerdict } from './decision.js'
import { type Entries, firstPassing, type Query } from './entries.js'
import { foldSegment } from './pattern.js'
import { split } from './segment-table.js'
import { lowestBelow, NO_ENTRY } from './trie.js'

/** A raw connection on a port: HTTP attributes are missing. */
export interface RawConnection {
  readonly kind: 'tcp'
}

export const rawConnection: RawConnection = { kind: 'tcp' }

/** What a caller wants: one HTTP request, or the connection itself. */
export type AccessRequest = CanonicalRequest | RawConnection

/**
 * Guardrails before denies before allows, and of those that match the lowest `<policy>/<rule>`. Pure:
 * the same binding, request and time always give the same decision.
 */
export function decide(bound: BoundCaller, request: AccessRequest, now: number): Decision {
  const { policy, sector, otherwise, enforced, shadow } = bound
  if (policy === undefined || sector === undefined) return otherwise
  prepare({ policy, sector, request, now })
  const entry = lowestEntry({ policy, sector, plan: enforced, request })
  const decision = entry === NO_ENTRY ? otherwise : decisionBy(policy, entry)
  if (shadow === undefined) return decision

  const shadowEntry = lowestEntry({ policy, sector, plan: shadow, request })
  if (shadowEntry === NO_ENTRY) return decision
  return { ...decision, shadow: shadowVerdict(policy, { entry, shadowEntry }) } as Decision
}

interface Look {
  readonly policy: CompiledPolicy
  readonly sector: Sector
  readonly request: AccessRequest
}

/** Fills in what all walks of this decision share. A decision never waits, so nothing comes between. */
function prepare({ policy, sector, request, now }: Look & { readonly now: number }): void {
  const { query, segments, walk } = sector
  query.now = now
  if (request.kind === 'tcp') {
    query.methodBit = -1
    return
  }
  query.method = request.method
  query.methodBit = policy.engine.methods.bitOf(request.method)
  split(segments, request.path, walk.path)
}

function lowestEntry({ policy, sector, plan, request }: Look & { readonly plan: Plan }): number {
  const { entries } = policy.engine
  if (request.kind === 'tcp') return lowestInLists(plan.tcp, { entries, sector })
  const best = lowestInLists(plan.open, { entries, sector })
  // No path rule can match the asterisk of OPTIONS.
  return request.path === '*'
    ? best
    : lowestByPath({ entries, sector, plan, best, path: request.path })
}

interface Table {
  readonly entries: Entries
  readonly sector: Sector
}

function lowestInLists(starts: readonly number[], { entries, sector }: Table): number {
  const { lists } = sector.tries
  return starts.reduce(
    (best, start) => firstPassing(entries, { lists, start, best }, sector.query),
    NO_ENTRY,
  )
}

function lowestByPath(
  look: Table & { readonly plan: Plan; readonly best: number; readonly path: string },
): number {
  const { entries, sector, plan, path } = look
  const exact = lowestBelowRoots(plan.roots, { entries, sector, best: look.best })
  const { walk, foldedDiffers, segments } = sector
  if (plan.folded.length === 0 || !(walk.path.foldable || foldedDiffers)) return exact

  split(segments, foldPath(path), walk.path)
  const folded = lowestBelowRoots(plan.folded, { entries, sector, best: exact })
  // The shadow rules of this decision look at the path as it is.
  split(segments, path, walk.path)
  return folded
}

function lowestBelowRoots(
  roots: readonly number[],
  { entries, sector, best }: Table & { readonly best: number },
): number {
  const { tries, walk, query } = sector
  const judge = (start: number, best: number, query: Query) =>
    firstPassing(entries, { lists: tries.lists, start, best }, query)
  return roots.reduce((best, root) => lowestBelow(tries, { root, best, walk, judge, query }), best)
}

/** A canonical path as deny rules compare it with folded patterns. */
export function foldPath(path: string): string {
  return `/${path
    .split('/')
    .map(foldSegment)
    .filter((segment) => segment !== '')
    .join('/')}`
}

const decisions = new WeakMap<CompiledPolicy, (AllowDecision | DenyDecision | undefined)[]>()

/** One decision object for each entry, made when it is first needed. */
function decisionBy(policy: CompiledPolicy, entry: number): Decision {
  let known = decisions.get(policy)
  if (known === undefined) {
    known = []
    decisions.set(policy, known)
  }
  return (known[entry] ??= makeDecision(policy, entry))
}

function makeDecision({ engine }: CompiledPolicy, entry: number): Decision {
  const compiled = ruleOf(engine, entry)
  const { class: ruleClass, policy, rule } = compiled
  const by = { policy, rule: rule.name, pattern: engine.entries.patterns[entry], shadow: undefined }
  switch (ruleClass) {
    case 'allow':
      return { effect: 'allow', reason: 'allow-rule', ...by }
    case 'deny':
      return { effect: 'deny', reason: 'deny-rule', ...by }
    case 'guardrail':
      return { effect: 'deny', reason: 'guardrail', ...by }
  }
}

function ruleOf({ entries, rules }: CompiledPolicy['engine'], entry: number): CompiledRule {
  const rule = rules[entries.rules[entry] ?? -1]
  if (rule === undefined) throw new RangeError('entry without a rule')
  return rule
}

/** The decision over enforced and shadow rules together, and what it changes. */
function shadowVerdict(
  { engine }: CompiledPolicy,
  { entry, shadowEntry }: { readonly entry: number; readonly shadowEntry: number },
): ShadowVerdict {
  const effectOf = (number: number) =>
    number !== NO_ENTRY && ruleOf(engine, number).class === 'allow' ? 'allow' : 'deny'
  const effect = effectOf(Math.min(entry, shadowEntry))
  const { policy, rule } = ruleOf(engine, shadowEntry)
  const same = effect === effectOf(entry)
  const direction = same ? undefined : effect === 'allow' ? 'would_allow' : 'would_deny'
  return { effect, direction, policy, rule: rule.name }
}

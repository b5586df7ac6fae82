import type { BoundCaller, Plan } from './bind.js'
import type { CanonicalRequest } from './canonical.js'
import type { CompiledRule, Engine } from './compile.js'
import type { Decision, ShadowVerdict } from './decision.js'
import { ANY_METHOD, firstPassing, type Judge, NO_ENTRY } from './entries.js'
import { foldSegment } from './pattern.js'
import type { Sector } from './sector.js'
import { isFoldable, split } from './segment-table.js'
import { lowestBelow } from './trie.js'

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
  const { engine } = policy
  prepare({ engine, sector, request, now })
  const entry = lowestEntry(sector, enforced, request)
  const decision = entry === NO_ENTRY ? otherwise : decisionBy(engine, entry)
  if (shadow === undefined) return decision

  const shadowEntry = lowestEntry(sector, shadow, request)
  if (shadowEntry === NO_ENTRY) return decision
  return { ...decision, shadow: shadowVerdict(engine, { entry, shadowEntry }) } as Decision
}

/** Fills in what all walks of this decision share. A decision never waits, so nothing comes between. */
function prepare(options: {
  readonly engine: Engine
  readonly sector: Sector
  readonly request: AccessRequest
  readonly now: number
}): void {
  const { engine, sector, request, now } = options
  const { walk, segments } = sector
  const { query } = walk.judge
  query.now = now
  if (request.kind === 'tcp') {
    query.methodBit = ANY_METHOD
    return
  }
  query.method = request.method
  query.methodBit = engine.methods.bitOf(request.method)
  split(segments, request.path, walk.path)
}

function lowestEntry(sector: Sector, plan: Plan, request: AccessRequest): number {
  const { judge } = sector.walk
  if (request.kind === 'tcp') return lowestInLists(judge, plan.tcp)
  const best = lowestInLists(judge, plan.open)
  // No path rule can match the asterisk of OPTIONS.
  if (request.path === '*') return best
  const exact = lowestBelow(sector.walk, plan.roots, best)
  return plan.folded.length === 0
    ? exact
    : lowestFolded(sector, plan, { path: request.path, exact })
}

function lowestInLists(judge: Judge, starts: readonly number[]): number {
  let best = NO_ENTRY
  for (const start of starts) best = firstPassing(judge, start, best)
  return best
}

function lowestFolded(
  { walk, segments, foldedDiffers }: Sector,
  { folded }: Plan,
  { path, exact }: { readonly path: string; readonly exact: number },
): number {
  if (!foldedDiffers && !isFoldable(segments, path, walk.path)) return exact
  split(segments, foldPath(path), walk.path)
  const best = lowestBelow(walk, folded, exact)
  // The shadow rules of this decision look at the path as it is.
  split(segments, path, walk.path)
  return best
}

/** A canonical path as deny rules compare it with folded patterns. */
export function foldPath(path: string): string {
  return `/${path
    .split('/')
    .map(foldSegment)
    .filter((segment) => segment !== '')
    .join('/')}`
}

function decisionBy(engine: Engine, entry: number): Decision {
  return (engine.decisions[entry] ??= makeDecision(engine, entry))
}

function makeDecision(engine: Engine, entry: number): Decision {
  const { class: ruleClass, policy, rule } = ruleOf(engine, entry)
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

function ruleOf({ entries, rules }: Engine, entry: number): CompiledRule {
  const rule = rules[entries.rules[entry] ?? -1]
  if (rule === undefined) throw new RangeError('entry without a rule')
  return rule
}

/** The decision over enforced and shadow rules together, and what it changes. */
function shadowVerdict(
  engine: Engine,
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

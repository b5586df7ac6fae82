import type { SpiffeId, TrustDomain } from '../spiffe/index.js'
import { byBytes } from './canonical-json.js'
import type { Decision } from './decision.js'
import {
  CROWD_BIT,
  type Entries,
  type MethodBits,
  maskOf,
  methodBits,
  methodsWithHead,
  NO_WINDOW,
} from './entries.js'
import { growing, trimmed } from './growing.js'
import { type Sector, sectorOf } from './sector.js'
import { type Aliases, expandAlias, type Source } from './selectors.js'
import type { Snapshot, SnapshotPolicy, SnapshotRule } from './snapshot.js'
import { eachWay } from './ways.js'

/** A snapshot made ready to decide. Immutable to those who hold it: a change is a new one. */
export interface CompiledPolicy {
  readonly id: string
  readonly generation: number
  readonly target: SpiffeId
  readonly trustDomain: TrustDomain
  readonly snapshot: Snapshot
  /** The first moment after `now` at which a rule begins or ends, or `undefined`. */
  nextEdge(now: number): number | undefined
  /** @private What decides; only for `policies/`. */
  readonly engine: Engine
}

/** What a decision looks at. */
export interface Engine {
  readonly methods: MethodBits
  readonly entries: Entries
  /** In the order of decision. */
  readonly rules: readonly CompiledRule[]
  /** The decision by each entry, made when it is first needed. */
  readonly decisions: (Decision | undefined)[]
  /** The rules on one port, or on none. All ports that no document names are alike. */
  sectorFor(port: number | undefined): Sector
}

/** A rule with what it inherits from its document. */
export interface CompiledRule {
  readonly class: RuleClass
  readonly policy: string
  /** `<policy>/<rule>`. */
  readonly label: string
  readonly rule: SnapshotRule
  /** `undefined` for all ports. */
  readonly ports: readonly number[] | undefined
  readonly shadow: boolean
  /** Without alias groups. */
  readonly sources: readonly Source[]
}

export type RuleClass = 'guardrail' | 'deny' | 'allow'

/** Numbers the rules and their entries; the tries are made per port, when it is first asked for. */
export function compilePolicy(snapshot: Snapshot): CompiledPolicy {
  const { id, generation, target, trustDomain } = snapshot
  const rules = rulesInOrder(snapshot)
  const methods = methodBits(namedMethods(rules))
  const { entries, firstEntries } = entriesOf(rules, methods)
  const ports = new Set(rules.flatMap((rule) => rule.ports ?? []))
  const sectors = new Map<number | undefined, Sector>()
  const edges = edgesOf(entries)

  const sectorFor = (port: number | undefined): Sector => {
    const alike = alikePort(port, ports)
    const known = sectors.get(alike)
    if (known !== undefined) return known
    const made = sectorOf({ rules, entries, firstEntries, port: alike })
    sectors.set(alike, made)
    return made
  }
  return {
    id,
    generation,
    target,
    trustDomain,
    snapshot,
    nextEdge: (now) => edges.find((edge) => edge > now),
    engine: { methods, entries, rules, decisions: [], sectorFor },
  }
}

/** Stands for every port that no document names. */
const OTHER_PORT = 0

function alikePort(port: number | undefined, named: ReadonlySet<number>): number | undefined {
  if (named.size === 0) return undefined
  return port === undefined || named.has(port) ? port : OTHER_PORT
}

const CLASSES: readonly RuleClass[] = ['guardrail', 'deny', 'allow']

function rulesInOrder({
  policies,
  guardrails,
  shadow,
  aliases,
}: Snapshot): readonly CompiledRule[] {
  const rules: CompiledRule[] = []
  const add = (policy: SnapshotPolicy, isShadow: boolean) => {
    for (const rule of policy.rules) {
      rules.push({
        class: policy.kind === 'Guardrail' ? 'guardrail' : rule.action,
        policy: policy.name,
        label: `${policy.name}/${rule.name}`,
        rule,
        ports: policy.ports,
        shadow: isShadow,
        sources: expanded(rule.from, aliases),
      })
    }
  }
  for (const policy of guardrails) add(policy, false)
  for (const policy of policies) add(policy, false)
  for (const policy of shadow) add(policy, true)
  return CLASSES.flatMap((ruleClass) =>
    rules
      .filter((rule) => rule.class === ruleClass)
      .sort((left, right) => byBytes(left.label, right.label)),
  )
}

function expanded(from: readonly Source[], aliases: Aliases): readonly Source[] {
  if (aliases.size === 0) return from
  return [...new Set(from.flatMap((source) => expandAlias(source, aliases)))]
}

function namedMethods(rules: readonly CompiledRule[]): ReadonlySet<string> {
  const named = new Set<string>()
  for (const { rule } of rules) {
    for (const operation of rule.to ?? []) {
      if (operation.kind !== 'http' || operation.methods === undefined) continue
      for (const method of operation.methods) named.add(method)
    }
  }
  if (named.has('GET')) named.add('HEAD')
  return named
}

interface NumberedEntries {
  readonly entries: Entries
  /** The first entry of each rule; the others follow in the order of {@link eachWay}. */
  readonly firstEntries: Int32Array
}

function entriesOf(rules: readonly CompiledRule[], methods: MethodBits): NumberedEntries {
  const tests = growing()
  const ruleOf = growing()
  const firstEntries = growing()
  const patterns: (string | undefined)[] = []
  const crowded = new Map<number, ReadonlySet<string>>()
  const windowNumbers = windowTable()

  rules.forEach((compiled, number) => {
    firstEntries.push(ruleOf.length)
    const window = windowNumbers.numberOf(compiled.rule)
    eachWay(compiled, ({ methods: names, pattern }) => {
      const mask = maskOf(names, methods)
      if (names !== undefined && mask & CROWD_BIT) {
        crowded.set(ruleOf.length, new Set(methodsWithHead(names)))
      }
      tests.push(mask)
      tests.push(window)
      ruleOf.push(number)
      patterns.push(pattern)
    })
  })
  return {
    firstEntries: trimmed(firstEntries),
    entries: {
      tests: trimmed(tests),
      windowTimes: windowNumbers.times(),
      crowded,
      rules: trimmed(ruleOf),
      patterns,
    },
  }
}

/** Validity windows under numbers; 0 is always. */
function windowTable(): { numberOf(rule: SnapshotRule): number; times(): Float64Array } {
  const numbers = new Map<string, number>()
  const times = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]
  return {
    numberOf(rule) {
      if (rule.notBefore === undefined && rule.expires === undefined) return NO_WINDOW
      const { notBefore = Number.NEGATIVE_INFINITY, expires = Number.POSITIVE_INFINITY } = rule
      const name = `${notBefore} ${expires}`
      const known = numbers.get(name)
      if (known !== undefined) return known
      const number = times.length / 2
      numbers.set(name, number)
      times.push(notBefore, expires)
      return number
    },
    times: () => Float64Array.from(times),
  }
}

function edgesOf({ windowTimes }: Entries): readonly number[] {
  return [...new Set(windowTimes)].filter(Number.isFinite).sort((left, right) => left - right)
}

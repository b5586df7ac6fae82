import type { SpiffeId, TrustDomain } from '../spiffe/index.js'
import { byBytes } from './canonical-json.js'
import {
  ANY_METHOD,
  CROWD_BIT,
  decidingEntries,
  type Entries,
  type MethodBits,
  maskOf,
  methodBits,
  methodsWithHead,
  NO_WINDOW,
  type Query,
} from './entries.js'
import { PolicyError } from './errors.js'
import { type Growing, growing } from './growing.js'
import { foldPattern, type PatternSegment, pathOfGrpc, segmentsOfPath } from './pattern.js'
import type { Operation } from './policy.js'
import { type SegmentTable, segmentNumbers } from './segment-table.js'
import { expandAlias, type Source } from './selectors.js'
import type { Snapshot, SnapshotPolicy, SnapshotRule } from './snapshot.js'
import { type SourceTable, sourceTable } from './source-table.js'
import { type TrieBuilder, type Tries, trieBuilder, type Walk, walkOver } from './trie.js'

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
  readonly rules: readonly CompiledRule[]
  /** The tries for one port; those for a port that no document names are the same. */
  sectorFor(port: number | undefined): Sector
}

/** A rule in the order of decision. */
export interface CompiledRule {
  readonly class: RuleClass
  readonly policy: string
  readonly rule: SnapshotRule
  readonly ports: readonly number[] | undefined
  readonly shadow: boolean
  readonly sources: readonly Source[]
}

export type RuleClass = 'guardrail' | 'deny' | 'allow'

/** The rules that apply on one port, by source. */
export interface Sector {
  readonly sources: SourceTable
  /** Eight numbers for each source; see {@link Column}. */
  readonly columns: Int32Array
  readonly segments: SegmentTable
  readonly tries: Tries
  readonly walk: Walk
  readonly query: Query
  /** Whether a path that folding leaves alone can match a folded pattern and not the pattern itself. */
  readonly foldedDiffers: boolean
}

/** Where a source's tries and lists stand; the shadow ones follow at `SHADOW`. */
export const Column = { open: 0, root: 1, tcp: 2, folded: 3 } as const
export const SHADOW = 4
export const COLUMNS = 8

/** More than these are no policy of one app. */
const MAX_PLACEMENTS = 4_000_000

/** Builds the tries of a snapshot. Throws `CS_SNAPSHOT_INVALID` when it is too large. */
export function compilePolicy(snapshot: Snapshot): CompiledPolicy {
  const { id, generation, target, trustDomain } = snapshot
  const rules = rulesInOrder(snapshot)
  const methods = methodBits(namedMethods(rules))
  const { entries, places } = entriesOf(rules, methods)
  const ports = new Set(rules.flatMap((rule) => rule.ports ?? []))
  const sectors = new Map<number | undefined, Sector>()
  const edges = edgesOf(entries)

  return {
    id,
    generation,
    target,
    trustDomain,
    snapshot,
    nextEdge: (now) => edges.find((edge) => edge > now),
    engine: {
      methods,
      entries,
      rules,
      sectorFor(port) {
        const named = port !== undefined && ports.has(port) ? port : undefined
        const known = sectors.get(named)
        if (known !== undefined) return known
        const made = sectorOf({ rules, entries, places, port: named })
        sectors.set(named, made)
        return made
      },
    },
  }
}

const CLASSES: readonly RuleClass[] = ['guardrail', 'deny', 'allow']

function rulesInOrder({
  policies,
  guardrails,
  shadow,
  aliases,
}: Snapshot): readonly CompiledRule[] {
  const expand = (from: readonly Source[]) => [
    ...new Set(from.flatMap((source) => expandAlias(source, aliases))),
  ]
  const rulesOf = (policy: SnapshotPolicy, isShadow: boolean) =>
    policy.rules.map((rule) => ({
      class: policy.kind === 'Guardrail' ? 'guardrail' : rule.action,
      policy: policy.name,
      rule,
      ports: policy.ports,
      shadow: isShadow,
      sources: expand(rule.from),
      label: `${policy.name}/${rule.name}`,
    }))
  const all = [
    ...[...guardrails, ...policies].flatMap((policy) => rulesOf(policy, false)),
    ...shadow.flatMap((policy) => rulesOf(policy, true)),
  ]
  return all.sort(
    (left, right) =>
      CLASSES.indexOf(left.class as RuleClass) - CLASSES.indexOf(right.class as RuleClass) ||
      byBytes(left.label, right.label),
  ) as readonly CompiledRule[]
}

function* namedMethods(rules: readonly CompiledRule[]): Generator<string> {
  for (const { rule } of rules) {
    for (const operation of rule.to ?? []) {
      if (operation.kind === 'http') yield* methodsWithHead(operation.methods ?? [])
    }
  }
}

/** Where an entry belongs in the tries of each source of its rule. */
type Place =
  | { readonly kind: 'everything' | 'any-path' | 'tcp' }
  | {
      readonly kind: 'path'
      readonly exact: readonly PatternSegment[]
      /** Only of rules that deny. */
      readonly folded: readonly PatternSegment[] | undefined
    }

/** The places of each rule's entries, in the order of both. */
type RulePlaces = readonly { readonly entry: number; readonly place: Place }[]

interface EntryDraft {
  readonly place: Place
  readonly mask: number
  readonly methods?: readonly string[] | undefined
  readonly pattern?: string
}

function entriesOf(
  rules: readonly CompiledRule[],
  methods: MethodBits,
): { readonly entries: Entries; readonly places: readonly RulePlaces[] } {
  const masks = growing()
  const windows = growing()
  const ruleOf = growing()
  const patterns: (string | undefined)[] = []
  const crowded = new Map<number, ReadonlySet<string>>()
  const windowNumbers = windowTable()

  const places = rules.map((compiled, number) => {
    const window = windowNumbers.numberOf(compiled.rule)
    return draftsOf(compiled, methods).map(({ place, mask, methods: names, pattern }) => {
      const entry = masks.length
      masks.push(mask)
      windows.push(window)
      ruleOf.push(number)
      patterns.push(pattern)
      if (names !== undefined && mask & CROWD_BIT)
        crowded.set(entry, new Set(methodsWithHead(names)))
      return { entry, place }
    })
  })
  return {
    places,
    entries: {
      masks: trimmed(masks),
      windows: trimmed(windows),
      windowTimes: windowNumbers.times(),
      crowded,
      rules: trimmed(ruleOf),
      patterns,
    },
  }
}

const trimmed = ({ values, length }: Growing) => values.slice(0, length)

function draftsOf(compiled: CompiledRule, methods: MethodBits): readonly EntryDraft[] {
  const { to } = compiled.rule
  if (to === undefined) return [{ place: { kind: 'everything' }, mask: ANY_METHOD }]
  const denies = compiled.class !== 'allow'
  const drafts = to.flatMap((operation) => draftsOfOperation(operation, { methods, denies }))
  // On a raw connection the attributes of HTTP are missing, and what is missing matches a deny.
  const isWider = denies && to.every(({ kind }) => kind !== 'tcp')
  return isWider ? [...drafts, { place: { kind: 'tcp' }, mask: ANY_METHOD }] : drafts
}

function draftsOfOperation(
  operation: Operation,
  { methods, denies }: { readonly methods: MethodBits; readonly denies: boolean },
): readonly EntryDraft[] {
  const placeOf = (path: string): Place => {
    const exact = segmentsOfPath(path)
    return { kind: 'path', exact, folded: denies ? foldPattern(exact) : undefined }
  }
  switch (operation.kind) {
    case 'tcp':
      return [{ place: { kind: 'tcp' }, mask: ANY_METHOD }]
    case 'grpc':
      return operation.methods.map((pattern) => ({
        place: placeOf(pathOfGrpc(pattern)),
        mask: ANY_METHOD,
        pattern,
      }))
    case 'http': {
      const names = operation.methods
      const mask = maskOf(names, methods)
      if (operation.paths === undefined)
        return [{ place: { kind: 'any-path' }, mask, methods: names }]
      return operation.paths.map((pattern) => ({
        place: placeOf(pattern),
        mask,
        methods: names,
        pattern,
      }))
    }
  }
}

/** Validity windows under numbers; 0 is always. */
function windowTable(): {
  numberOf(rule: SnapshotRule): number
  times(): Float64Array
} {
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

function sectorOf(options: {
  readonly rules: readonly CompiledRule[]
  readonly entries: Entries
  readonly places: readonly RulePlaces[]
  readonly port: number | undefined
}): Sector {
  const { rules, entries, places, port } = options
  const segments = segmentNumbers()
  const builder = trieBuilder(segments)
  const sources = sourceTable()
  const columns = growing()
  const counter = { placements: 0, foldedDiffers: false }

  rules.forEach((compiled, number) => {
    if (!isOnPort(compiled, port)) return
    for (const source of compiled.sources) {
      const key = sources.keyOf(source)
      while (columns.length < sources.size * COLUMNS) columns.push(0)
      const at = key * COLUMNS + (compiled.shadow ? SHADOW : 0)
      for (const { entry, place } of places[number] ?? []) {
        addPlace(builder, { columns, at, entry, place, counter })
      }
    }
  })

  const { tries, listOf } = builder.finish((list) => decidingEntries(entries, list))
  return {
    sources,
    columns: finishColumns(columns, listOf),
    segments: segments.table(),
    tries,
    walk: walkOver(tries),
    query: { methodBit: 0, method: '', now: 0 },
    foldedDiffers: counter.foldedDiffers,
  }
}

const isOnPort = ({ ports }: CompiledRule, port: number | undefined) =>
  ports === undefined || (port !== undefined && ports.includes(port))

function addPlace(
  builder: TrieBuilder,
  options: {
    readonly columns: Growing
    readonly at: number
    readonly entry: number
    readonly place: Place
    readonly counter: { placements: number; foldedDiffers: boolean }
  },
): void {
  const { columns, at, entry, place, counter } = options
  if (++counter.placements > MAX_PLACEMENTS) {
    throw new PolicyError(
      'CS_SNAPSHOT_INVALID',
      `snapshot has more than ${MAX_PLACEMENTS} placements`,
    )
  }
  const inColumn = (column: number, make: () => number): number => {
    const known = columns.values[at + column] ?? 0
    if (known !== 0) return known
    const made = make()
    columns.values[at + column] = made
    return made
  }
  const { kind } = place
  if (kind === 'everything' || kind === 'any-path') {
    builder.addToList(inColumn(Column.open, builder.newList), entry)
  }
  if (kind === 'everything' || kind === 'tcp') {
    builder.addToList(inColumn(Column.tcp, builder.newList), entry)
  }
  if (kind !== 'path') return

  const { exact, folded } = place
  builder.addPattern(inColumn(Column.root, builder.newNode), exact, entry)
  if (folded === undefined) return
  builder.addPattern(inColumn(Column.folded, builder.newNode), folded, entry)
  if (folded.join('/') !== exact.join('/')) counter.foldedDiffers = true
}

function finishColumns(columns: Growing, listOf: (list: number) => number): Int32Array {
  const finished = trimmed(columns)
  for (let at = 0; at < finished.length; at += SHADOW) {
    for (const column of [Column.open, Column.tcp]) {
      finished[at + column] = listOf(finished[at + column] ?? 0)
    }
  }
  return finished
}

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { type BoundCaller, bindCaller } from '../policies/bind.js'
import { type CanonicalRequest, canonicalise } from '../policies/canonical.js'
import { type CompiledPolicy, compilePolicy } from '../policies/compile.js'
import { decide } from '../policies/decide.js'
import { linearPolicy } from '../policies/linear.js'
import type { Operation } from '../policies/policy.js'
import type { Snapshot, SnapshotPolicy } from '../policies/snapshot.js'
import { parseSpiffeId, parseTrustDomain, type SpiffeId } from '../spiffe/index.js'

/**
 * What one decision costs, by the number of policies in the mesh: PF-12 and section 13 of the policy
 * language. The reference of the ratios is a linear scan over the same rules in the same run.
 */

const TRUST_DOMAIN = parseTrustDomain('bench.test')
const NOW = Date.UTC(2026, 0, 1)

interface Row {
  readonly policies: number
  readonly apps: number
}

const rows: readonly Row[] = [
  { policies: 1_000, apps: 1 },
  { policies: 10_000, apps: 1_000 },
  { policies: 10_000, apps: 1 },
  { policies: 100_000, apps: 5_000 },
  { policies: 100_000, apps: 1 },
]

const ROUNDS = 9
const BUILDS = 5
/** Long enough for one round of any row to be out of the clock's noise. */
const DECISIONS = 100_000
const SAMPLES = 10_000
const LINEAR_BUDGET_MS = 150

interface Call {
  readonly bound: BoundCaller
  readonly request: CanonicalRequest
  readonly caller: SpiffeId
  readonly reference: ReturnType<typeof linearPolicy>
}

interface Prepared {
  readonly row: Row
  readonly calls: readonly Call[]
  readonly buildMs: number
  readonly oneAppMs: number
  readonly heapMb: number
  readonly rounds: Round[]
}

/** Nanoseconds per decision: of many in a row, and of single ones. */
interface Round {
  readonly mean: number
  readonly p50: number
  readonly p99: number
}

function main(): void {
  const prepared = rows.map(prepare)
  for (let round = 0; round < ROUNDS; round++) {
    for (const { calls, rounds } of prepared) rounds.push(measure(calls))
  }
  console.log(
    'policies  apps   build ms  one app ms  heap MB  linear µs  decide µs  p50 µs  p99 µs  of linear',
  )
  const p50s = prepared.map((entry) => report(entry))
  const of = (policies: number) =>
    p50s[rows.findIndex((row) => row.policies === policies && row.apps === 1)] ?? Number.NaN
  const ratio = of(100_000) / of(1_000)
  console.log(`\nPF-12  p50 at 10,000 policies: ${micros(of(10_000))} µs (floor 0.5, goal 0.3)`)
  console.log(`PF-12  p50 at 100,000 : 1,000 policies: ${ratio.toFixed(2)} (floor 5, goal 2)`)
  reportCanonical()
}

const micros = (nanos: number) => (nanos / 1000).toFixed(2)

function prepare(row: Row): Prepared {
  const snapshots = snapshotsOf(row)
  const before = heldBytes()
  const compiled = snapshots.map(compiledFor)
  const heapMb = (heldBytes() - before) / 2 ** 20
  const [first] = snapshots
  if (first === undefined) throw new Error('no snapshot')
  const buildMs = millisFor(() => snapshots.forEach(compiledFor))
  const oneAppMs = row.apps === 1 ? buildMs : millisFor(() => compiledFor(first))
  return { row, calls: callsOf(compiled), buildMs, oneAppMs, heapMb, rounds: [] }
}

function compiledFor(snapshot: Snapshot): CompiledPolicy {
  const compiled = compilePolicy(snapshot)
  compiled.engine.sectorFor(undefined)
  return compiled
}

function millisFor(build: () => void): number {
  const taken = Array.from({ length: BUILDS }, () => {
    const start = performance.now()
    build()
    return performance.now() - start
  })
  return median(taken)
}

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

function heldBytes(): number {
  collectGarbage()
  collectGarbage()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

/** Policies as a mesh has them: mostly one caller and a few paths, some namespaces, some denies. */
function snapshotsOf({ policies, apps }: Row): readonly Snapshot[] {
  const each = policies / apps
  return Array.from({ length: apps }, (_, app) => ({
    id: '',
    generation: 1,
    trustDomain: TRUST_DOMAIN,
    target: parseSpiffeId(`spiffe://bench.test/ns/shop/sa/app-${app}`),
    app: { layout: 'kubernetes', app: { namespace: 'shop', app: `app-${app}` } },
    aliases: new Map(),
    policies: [health, ...Array.from({ length: each }, (_, at) => policyOf(at, each))],
    guardrails: [quarantine],
    shadow: [],
    unreadableShadow: 0,
  }))
}

const TEAMS = 50
/** Each caller is named by a few rules, its namespace by others, and everyone may ask for health. */
const callerOf = (at: number, count: number) =>
  `spiffe://bench.test/ns/${teamOf(at)}/sa/caller-${at % Math.max(TEAMS, Math.floor(count / 5))}`
const teamOf = (at: number) => `team-${at % TEAMS}`

function policyOf(at: number, count: number): SnapshotPolicy {
  const turn = Math.floor(at / TEAMS)
  const isWide = turn % 10 === 1
  return {
    kind: 'AccessPolicy',
    name: `policy-${at}`,
    ports: undefined,
    rules: [
      {
        name: 'rule',
        action: turn % 20 === 11 ? 'deny' : 'allow',
        from: [isWide ? `spiffe://bench.test/ns/${teamOf(at)}/sa/{*}` : callerOf(at, count)],
        to: operationsOf(at),
        notBefore: undefined,
        expires: at % 7 === 0 ? NOW + 1_000_000 : undefined,
        reason: undefined,
      },
    ],
  }
}

function operationsOf(at: number): readonly Operation[] {
  const base = `/v1/resource-${at}`
  return [
    {
      kind: 'http',
      methods: ['GET', 'POST'],
      paths: [base, `${base}/{*}`, `${base}/{*}/items/{**}`],
    },
  ]
}

const health: SnapshotPolicy = {
  kind: 'AccessPolicy',
  name: 'health',
  ports: undefined,
  rules: [
    {
      name: 'everyone',
      action: 'allow',
      from: ['any'],
      to: [{ kind: 'http', methods: ['GET'], paths: ['/healthz', '/v1/{*}/health'] }],
      notBefore: undefined,
      expires: undefined,
      reason: undefined,
    },
  ],
}

const quarantine: SnapshotPolicy = {
  kind: 'Guardrail',
  name: 'quarantine',
  ports: undefined,
  rules: [
    {
      name: 'compromised',
      action: 'deny',
      from: ['spiffe://bench.test/ns/compromised/sa/{*}'],
      to: undefined,
      notBefore: undefined,
      expires: undefined,
      reason: undefined,
    },
  ],
}

/** As many as a busy proxy has open. */
const CONNECTIONS = 1024

/** Connections with a request each: three in four are allowed. */
function callsOf(compiled: readonly CompiledPolicy[]): readonly Call[] {
  return Array.from({ length: CONNECTIONS }, (_, at) => {
    const policy = compiled[(at * 7919) % compiled.length]
    if (policy === undefined) throw new Error('no policy')
    const count = policy.snapshot.policies.length - 1
    const number = (at * 104_729) % count
    const caller = parseSpiffeId(callerOf(number, count))
    const tail = ['', '/42', '/42/items/a/b', '/42/other'][at % 4] ?? ''
    const request = canonicalise({ method: 'GET', target: `/v1/resource-${number}${tail}?q=${at}` })
    if ('malformed' in request) throw new Error(request.malformed)
    return {
      bound: bindCaller(policy, caller),
      request,
      caller,
      reference: referenceOf(policy.snapshot),
    }
  })
}

const references = new Map<Snapshot, ReturnType<typeof linearPolicy>>()

function referenceOf(snapshot: Snapshot): ReturnType<typeof linearPolicy> {
  const known = references.get(snapshot) ?? linearPolicy(snapshot)
  references.set(snapshot, known)
  return known
}

function nanosPerDecision(calls: readonly Call[]): number {
  const mask = calls.length - 1
  let allowed = 0
  const start = process.hrtime.bigint()
  for (let at = 0; at < DECISIONS; at++) {
    const call = calls[at & mask]
    if (call !== undefined && decide(call.bound, call.request, NOW).effect === 'allow') allowed++
  }
  const nanos = Number(process.hrtime.bigint() - start)
  if (allowed === 0) throw new Error('nothing was allowed')
  return nanos / DECISIONS
}

function report({ row, calls, buildMs, oneAppMs, heapMb, rounds }: Prepared): number {
  const [mean, p50, p99] = (['mean', 'p50', 'p99'] as const).map((name) =>
    median(rounds.map((round) => round[name])),
  )
  if (mean === undefined || p50 === undefined || p99 === undefined) throw new Error('no rounds')
  const linear = linearNanos(calls)
  const cells = [
    row.policies.toString().padStart(8),
    row.apps.toString().padStart(6),
    buildMs.toFixed(1).padStart(10),
    oneAppMs.toFixed(2).padStart(11),
    heapMb.toFixed(1).padStart(9),
    (linear / 1000).toFixed(1).padStart(10),
    micros(mean).padStart(10),
    micros(p50).padStart(7),
    micros(p99).padStart(7),
    `1/${(linear / mean).toFixed(0)}`.padStart(10),
  ]
  console.log(cells.join(''))
  return p50
}

function measure(calls: readonly Call[]): Round {
  return { mean: nanosPerDecision(calls), ...percentiles(calls) }
}

/** Of single decisions; the cost of asking the clock twice is taken off. */
function percentiles(calls: readonly Call[]): Pick<Round, 'p50' | 'p99'> {
  const mask = calls.length - 1
  const clock = sampled(() => {})
  const taken = sampled((at) => {
    const call = calls[at & mask]
    if (call !== undefined) decide(call.bound, call.request, NOW)
  })
  const overhead = at(clock, 0.5)
  return {
    p50: Math.max(0, at(taken, 0.5) - overhead),
    p99: Math.max(0, at(taken, 0.99) - overhead),
  }
}

function sampled(run: (at: number) => void): Float64Array {
  const taken = new Float64Array(SAMPLES)
  for (let at = 0; at < SAMPLES; at++) {
    const start = process.hrtime.bigint()
    run(at)
    taken[at] = Number(process.hrtime.bigint() - start)
  }
  return taken.sort()
}

const at = (sorted: Float64Array, part: number) => sorted[Math.floor(sorted.length * part)] ?? 0

function linearNanos(calls: readonly Call[]): number {
  const start = performance.now()
  let count = 0
  while (performance.now() - start < LINEAR_BUDGET_MS) {
    const call = calls[count % calls.length]
    if (call === undefined) break
    const { caller, request, reference } = call
    reference({ caller, request, port: undefined, now: NOW })
    count++
  }
  return ((performance.now() - start) * 1e6) / count
}

function reportCanonical(): void {
  const targets = {
    plain: '/v1/orders/4711/items?page=2',
    escaped: '/v1/%6frders/caf%C3%A9//items?page=2',
    refused: '/public/%2e%2e/admin',
  }
  console.log('\ncanonicalise')
  for (const [name, target] of Object.entries(targets)) {
    const nanos = Array.from({ length: ROUNDS }, () => canonicalNanos(target))
    console.log(`  ${name.padEnd(8)} ${(median(nanos) / 1000).toFixed(3)} µs`)
  }
}

function canonicalNanos(target: string): number {
  let seen = 0
  const start = process.hrtime.bigint()
  for (let at = 0; at < DECISIONS; at++) {
    if ('path' in canonicalise({ method: 'GET', target, hosts: ['orders.test:8080'] })) seen++
  }
  const nanos = Number(process.hrtime.bigint() - start)
  if (seen !== 0 && seen !== DECISIONS) throw new Error('one target, two answers')
  return nanos / DECISIONS
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

main()

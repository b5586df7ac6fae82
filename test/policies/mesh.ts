import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { compiledFor } from '../../policies/evaluate.js'
import {
  type AccessRequest,
  type Aliases,
  bindCaller,
  type CompiledPolicy,
  canonicalise,
  type Decision,
  decide,
  idOfApp,
  type Layout,
  malformedDecision,
  parseDocuments,
  rawConnection,
  ruleOf,
  type UnauthenticatedDetail,
} from '../../policies/index.js'
import { linearPolicy } from '../../policies/linear.js'
import { parseSpiffeId, parseTrustDomain, type SpiffeId } from '../../spiffe/index.js'

export const trustDomain = parseTrustDomain('example.test')

/** A file of `test/vectors/policies/`. */
export function vector(name: string): string {
  return readFileSync(join(import.meta.dirname, '../vectors/policies', name), 'utf8')
}

export interface MeshOptions {
  readonly layout?: Layout
  readonly aliases?: Readonly<Record<string, readonly string[]>>
}

/** A call as a test writes it: `GET /x`, a gRPC method or a raw connection. */
export interface Call {
  /** `checkout` is an app of namespace shop, `batch/etl` one of another; or a whole SPIFFE ID. */
  readonly from?: string | { readonly unauthenticated: UnauthenticatedDetail }
  readonly app?: string
  readonly port?: number
  readonly http?: string
  readonly grpc?: string
  readonly tcp?: true
  readonly now?: number
}

export interface Mesh {
  policyFor(app: string): CompiledPolicy
  /** The engine's decision, after making sure that the linear reference decides alike. */
  ask(call: Call): Decision
  /** `allow orders/r`, `deny no-rule`: the decision in two words. */
  say(call: Call): string
}

/** The documents of a mesh of one trust domain, example.test. */
export function mesh(
  yaml: string,
  { layout = 'kubernetes', aliases = {} }: MeshOptions = {},
): Mesh {
  const documents = parseDocuments(yaml, 'test.yaml')
  const groups: Aliases = new Map(
    Object.entries(aliases).map(([name, members]) => [name, members.map(parseTrustDomain)]),
  )
  const policies = new Map<string, CompiledPolicy>()
  const idOf = (name: string): SpiffeId => {
    if (name.startsWith('spiffe://')) return parseSpiffeId(name)
    const [app = '', namespace = 'shop'] = name.split('/').toReversed()
    return idOfApp(layout, trustDomain, { namespace, app })
  }
  const policyFor = (app: string): CompiledPolicy => {
    const known =
      policies.get(app) ??
      compiledFor(idOf(app), { trustDomain, layout, documents, aliases: groups })
    policies.set(app, known)
    return known
  }
  const ask = (call: Call): Decision => {
    const { from = 'checkout', app = 'orders', port, now = 0 } = call
    const request = requestOf(call)
    if ('malformed' in request) return malformedDecision(request.malformed)
    const policy = policyFor(app)
    const caller = typeof from === 'string' ? idOf(from) : undefined
    const because = typeof from === 'string' ? {} : { unauthenticatedBecause: from.unauthenticated }
    const bound = bindCaller(policy, caller, {
      ...(port === undefined ? {} : { port }),
      ...because,
    })
    const decision = decide(bound, request, now)
    const reference = linearPolicy(policy.snapshot)({ caller, port, request, now, ...because })
    expect(decision).toEqual(reference)
    return decision
  }
  return {
    policyFor,
    ask,
    say(call) {
      const decision = ask(call)
      return `${decision.effect} ${ruleOf(decision) ?? decision.reason}`
    },
  }
}

function requestOf({ http, grpc, tcp }: Call): AccessRequest | ReturnType<typeof canonicalise> {
  if (tcp) return rawConnection
  if (grpc !== undefined) return canonicalise({ method: 'POST', target: `/${grpc}` })
  const [method = 'GET', target = '/'] = (http ?? 'GET /').split(' ')
  return canonicalise({ method, target })
}

/** An AccessPolicy of app orders in namespace shop. */
export function policy(
  rules: readonly string[],
  {
    name = 'orders',
    target = '{ app: orders }',
    mode = 'enforce',
  }: { readonly name?: string; readonly target?: string; readonly mode?: string } = {},
): string {
  return `---
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: { name: ${name}, namespace: shop }
spec:
  target: ${target}
  mode: ${mode}
  rules:
${rules.map((rule) => `    - ${rule}\n`).join('')}`
}

export function guardrail(
  rules: readonly string[],
  {
    name = 'guard',
    target = '{ mesh: true }',
    mode = 'enforce',
  }: { readonly name?: string; readonly target?: string; readonly mode?: string } = {},
): string {
  return `---
apiVersion: countersign.dev/v1
kind: Guardrail
metadata: { name: ${name} }
spec:
  target: ${target}
  mode: ${mode}
  rules:
${rules.map((rule) => `    - ${rule}\n`).join('')}`
}

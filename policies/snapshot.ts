import { createHash } from 'node:crypto'
import type { SpiffeId, TrustDomain } from '../spiffe/index.js'
import { byBytes, canonicalJson, type Json } from './canonical-json.js'
import { operationJson, timeJson } from './document-json.js'
import { PolicyError } from './errors.js'
import { type App, type Layout, localAppOf } from './layout.js'
import type { AccessPolicy, Action, Guardrail, Operation, PolicyDocument, Rule } from './policy.js'
import { type Aliases, type Source, sourceOf, trustDomainOfSource } from './selectors.js'

/** Version of the shape of a snapshot; a reader refuses any other. */
export const SNAPSHOT_FORMAT = 1

/** Parts of the language that a reader must know to enforce a snapshot rightly. */
export const snapshotFeatures = ['validity'] as const

/** Everything that one target enforces, and nothing of any other. */
export interface Snapshot {
  /** SHA-256 of the canonical bytes, in hex. */
  readonly id: string
  /** Grows by one with each change of the target. */
  readonly generation: number
  readonly trustDomain: TrustDomain
  /** SPIFFE ID of the app whose proxy enforces this. */
  readonly target: SpiffeId
  readonly app: SnapshotApp
  readonly aliases: Aliases
  readonly policies: readonly SnapshotPolicy[]
  readonly guardrails: readonly SnapshotPolicy[]
  readonly shadow: readonly SnapshotPolicy[]
  /** Shadow entries of a newer sentry that this reader does not know; they are left out. */
  readonly unreadableShadow: number
}

export interface SnapshotApp {
  readonly layout: Layout
  /** `undefined` for an ID that is not of the shape that the layout gives to apps. */
  readonly app: App | undefined
}

/** The enforced or the shadow rules of one document. */
export interface SnapshotPolicy {
  readonly kind: 'AccessPolicy' | 'Guardrail'
  readonly name: string
  /** `undefined` for all ports. */
  readonly ports: readonly number[] | undefined
  readonly rules: readonly SnapshotRule[]
}

export interface SnapshotRule {
  readonly name: string
  readonly action: Action
  readonly from: readonly Source[]
  readonly to: readonly Operation[] | undefined
  readonly notBefore: number | undefined
  readonly expires: number | undefined
  readonly reason: string | undefined
}

export interface SnapshotContent {
  readonly trustDomain: TrustDomain
  readonly layout: Layout
  readonly target: SpiffeId
  /** Of the whole mesh; those that do not reach the target are left out. */
  readonly documents: Iterable<PolicyDocument>
  readonly aliases?: Aliases
}

export interface BuiltSnapshot {
  readonly id: string
  readonly bytes: Uint8Array
}

/** The canonical bytes of a target's snapshot. The order of documents, rules and lists does not matter. */
export function buildSnapshot(
  options: SnapshotContent & { readonly generation: number },
): BuiltSnapshot {
  if (!Number.isSafeInteger(options.generation) || options.generation < 0) {
    throw new PolicyError('CS_SNAPSHOT_INVALID', 'generation must be a whole number')
  }
  const text = canonicalJson({ ...contentJson(options), generation: options.generation })
  const bytes = new TextEncoder().encode(text)
  return { id: snapshotIdOf(bytes), bytes }
}

/** The same for equal content under any generation: a target whose key stays has not changed. */
export function snapshotContentKey(options: SnapshotContent): string {
  return snapshotIdOf(new TextEncoder().encode(canonicalJson(contentJson(options))))
}

export function snapshotIdOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** Whether a document says anything about an app; `undefined` is an ID that is no app of ours. */
export function reaches(document: PolicyDocument, app: App | undefined): boolean {
  switch (document.kind) {
    case 'AccessPolicy':
      return document.namespace === app?.namespace && (document.app ?? app.app) === app.app
    case 'Guardrail':
      return guards(document, app)
    case 'PolicyTest':
      return false
  }
}

function guards({ reach }: Guardrail, app: App | undefined): boolean {
  if (reach.kind === 'mesh') return true
  return reach.namespace === app?.namespace && (reach.kind === 'namespace' || reach.app === app.app)
}

type Enforceable = AccessPolicy | Guardrail

function contentJson(options: SnapshotContent): { readonly [name: string]: Json } {
  const { trustDomain, layout, target, documents, aliases = new Map() } = options
  const app = localAppOf(target, { layout, trustDomain })
  const reaching = [...documents]
    .filter((document): document is Enforceable => reaches(document, app))
    .sort((left, right) => byBytes(left.name, right.name))
  const parts = { documents: reaching, layout, trustDomain }
  const enforced = (kind: Enforceable['kind']) => documentsJson({ ...parts, kind, mode: 'enforce' })

  return {
    format: SNAPSHOT_FORMAT,
    requires: requiredFeatures(reaching),
    trustDomain,
    target,
    aliases: aliasesJson({ ...parts, aliases }),
    app: { layout, namespace: app?.namespace, name: app?.app },
    policies: enforced('AccessPolicy'),
    guardrails: enforced('Guardrail'),
    shadow: [
      ...documentsJson({ ...parts, kind: 'AccessPolicy', mode: 'shadow' }),
      ...documentsJson({ ...parts, kind: 'Guardrail', mode: 'shadow' }),
    ],
  }
}

interface DocumentParts {
  readonly documents: readonly Enforceable[]
  readonly layout: Layout
  readonly trustDomain: TrustDomain
}

function documentsJson(
  parts: DocumentParts & { readonly kind: Enforceable['kind']; readonly mode: Rule['mode'] },
): readonly Json[] {
  const { documents, kind, mode, layout, trustDomain } = parts
  return documents.flatMap((document) => {
    const rules = document.kind === kind ? rulesIn(document, mode) : []
    if (rules.length === 0) return []
    const namespace = document.kind === 'AccessPolicy' ? document.namespace : undefined
    const toSource = (selector: Rule['from'][number]) =>
      sourceOf(selector, { layout, trustDomain, namespace })
    return [
      {
        kind: mode === 'shadow' ? kind : undefined,
        name: document.name,
        ports: document.ports && [...new Set(document.ports)].sort((left, right) => left - right),
        rules: rules.map((rule) => ruleJson(rule, toSource)),
      },
    ]
  })
}

/** The rules of a document that are in a mode, by themselves or with all of the document. */
function rulesIn(document: Enforceable, mode: Rule['mode']): readonly Rule[] {
  const modeOf = (rule: Rule) => (document.mode === 'shadow' ? 'shadow' : rule.mode)
  return document.rules
    .filter((rule) => modeOf(rule) === mode)
    .sort((left, right) => byBytes(left.name, right.name))
}

function ruleJson(rule: Rule, toSource: (selector: Rule['from'][number]) => Source): Json {
  const { name, action, from, to, notBefore, expires, reason } = rule
  return {
    name,
    action,
    from: sortedSet(from.map(toSource)),
    to: to && sortedOperations(to),
    notBefore: timeJson(notBefore),
    expires: timeJson(expires),
    reason,
  }
}

function sortedOperations(operations: readonly Operation[]): readonly Json[] {
  const spelt = operations.map((operation) => operationJson(sortedLists(operation)))
  const byText = new Map(spelt.map((json) => [canonicalJson(json), json]))
  return sortedSet(byText.keys()).map((text) => byText.get(text) ?? null)
}

function sortedLists(operation: Operation): Operation {
  switch (operation.kind) {
    case 'http': {
      const { methods, paths } = operation
      return {
        kind: 'http',
        methods: methods && sortedSet(methods),
        paths: paths && sortedSet(paths),
      }
    }
    case 'grpc':
      return { kind: 'grpc', methods: sortedSet(operation.methods) }
    case 'tcp':
      return operation
  }
}

const sortedSet = (texts: Iterable<string>): readonly string[] => [...new Set(texts)].sort(byBytes)

/** Only of enforced rules: what a reader cannot judge in shadow it leaves out. */
function requiredFeatures(documents: readonly Enforceable[]): readonly string[] {
  const enforced = documents.flatMap((document) => rulesIn(document, 'enforce'))
  const timed = enforced.some((rule) => (rule.notBefore ?? rule.expires) !== undefined)
  return timed ? ['validity'] : []
}

/** The alias groups that a rule of the snapshot names. */
function aliasesJson(parts: DocumentParts & { readonly aliases: Aliases }): {
  readonly [name: string]: Json
} {
  const { documents, aliases, layout, trustDomain } = parts
  if (aliases.size === 0) return {}
  const context = { layout, trustDomain, namespace: '-' }
  const named = documents
    .flatMap(({ rules }) => rules.flatMap(({ from }) => from))
    .map((selector) => trustDomainOfSource(sourceOf(selector, context)))
  const used = [...aliases].filter(([name]) => named.includes(name))
  return Object.fromEntries(used.map(([name, members]) => [name, sortedSet(members)]))
}

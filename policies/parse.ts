import { parseWorkloadId } from '../spiffe/index.js'
import { isMethod } from './canonical.js'
import {
  type Cursor,
  type Fields,
  fieldsOf,
  itemsOf,
  oneOf,
  optional,
  quoted,
  report,
  required,
  scalarOf,
  textOf,
  textThat,
  throwFindings,
  trueOf,
} from './cursor.js'
import { PolicyError } from './errors.js'
import { type Located, located } from './located.js'
import { nameOf, patternOf, segmentOf } from './parse-names.js'
import { modeOf, rulesOf } from './parse-rule.js'
import { grpcPatternFault } from './pattern.js'
import {
  type AccessPolicy,
  API_VERSION,
  documentKey,
  documentName,
  type Guardrail,
  type GuardrailReach,
  type PolicyDocument,
  type PolicyTest,
  type TestCall,
  type TestCase,
} from './policy.js'
import { readYaml } from './yaml-text.js'

/**
 * Reads YAML or JSON, one or more documents. Unknown fields are refused, and so are documents that
 * share a name. Throws a {@link PolicyError} that names every place that is wrong.
 */
export function parseDocuments(text: string, source: string): readonly PolicyDocument[] {
  const findings = { source, problems: [] }
  const taken = new Set<string>()
  const documents = readYaml({ text, source }).map((node) => {
    const cursor = { node, field: '', findings }
    const document = documentOf(cursor)
    if (document !== undefined) reportTwin(cursor, { document, taken })
    return document
  })
  throwFindings(findings)
  return documents.filter((document) => document !== undefined)
}

/** Reads one document as `documentToJson` wrote it. Throws a {@link PolicyError}. */
export function documentFromJson(json: string): PolicyDocument {
  const source = 'stored document'
  const findings = { source, problems: [] }
  const document = documentOf({ node: locatedJson(json, source), field: '', findings })
  throwFindings(findings)
  if (document === undefined) throw new PolicyError('CS_POLICY_INVALID', `${source}: no document`)
  return document
}

function locatedJson(json: string, source: string): Located {
  try {
    return located(JSON.parse(json))
  } catch (cause) {
    throw new PolicyError('CS_POLICY_MALFORMED', `${source}: not JSON`, { cause })
  }
}

const KINDS = ['AccessPolicy', 'Guardrail', 'PolicyTest'] as const

function documentOf(cursor: Cursor): PolicyDocument | undefined {
  const fields = fieldsOf(cursor, { known: ['apiVersion', 'kind', 'metadata', 'spec'] })
  required(fields, 'apiVersion', (version) => oneOf(version, [API_VERSION]))
  switch (required(fields, 'kind', (kind) => oneOf(kind, KINDS))) {
    case 'AccessPolicy':
      return accessPolicyOf(fields)
    case 'Guardrail':
      return guardrailOf(fields)
    case 'PolicyTest':
      return policyTestOf(fields)
    case undefined:
      return undefined
  }
}

function reportTwin(
  cursor: Cursor,
  { document, taken }: { readonly document: PolicyDocument; readonly taken: Set<string> },
): void {
  const key = documentKey(document)
  if (taken.has(key)) {
    const message = `${document.kind} ${quoted(documentName(document))} is there already`
    report(cursor, { code: 'CS_POLICY_DUPLICATE', message })
  }
  taken.add(key)
}

function accessPolicyOf(fields: Fields): AccessPolicy {
  const { name, namespace } = metadataOf(fields)
  const spec = rulesSpecOf(fields)
  const target = spec && required(spec, 'target', targetFieldsOf)
  return {
    kind: 'AccessPolicy',
    name,
    namespace,
    app: target && targetAppOf(target),
    ...enforcementOf({ spec, target }, { kind: 'AccessPolicy' }),
  }
}

function guardrailOf(fields: Fields): Guardrail {
  const metadata = required(fields, 'metadata', (cursor) => fieldsOf(cursor, { known: ['name'] }))
  const spec = rulesSpecOf(fields)
  const target = spec && required(spec, 'target', targetFieldsOf)
  return {
    kind: 'Guardrail',
    name: (metadata && required(metadata, 'name', nameOf)) ?? '',
    reach: (target && reachOf(target)) ?? { kind: 'mesh' },
    ...enforcementOf({ spec, target }, { kind: 'Guardrail' }),
  }
}

function metadataOf(fields: Fields): { readonly name: string; readonly namespace: string } {
  const metadata = required(fields, 'metadata', (cursor) =>
    fieldsOf(cursor, { known: ['name', 'namespace'] }),
  )
  return {
    name: (metadata && required(metadata, 'name', nameOf)) ?? '',
    namespace: (metadata && required(metadata, 'namespace', segmentOf)) ?? '',
  }
}

const rulesSpecOf = (fields: Fields) =>
  required(fields, 'spec', (cursor) => fieldsOf(cursor, { known: ['target', 'mode', 'rules'] }))

const targetFieldsOf = (cursor: Cursor) =>
  fieldsOf(cursor, { known: ['app', 'namespace', 'mesh', 'ports'] })

function enforcementOf(
  { spec, target }: { readonly spec: Fields | undefined; readonly target: Fields | undefined },
  owner: Parameters<typeof rulesOf>[1],
): Pick<AccessPolicy, 'ports' | 'mode' | 'rules'> {
  return {
    ports: target && optional(target, 'ports', portsOf),
    mode: (spec && optional(spec, 'mode', modeOf)) ?? 'enforce',
    rules: (spec && required(spec, 'rules', (cursor) => rulesOf(cursor, owner))) ?? [],
  }
}

/** The app of an AccessPolicy's target, or `undefined` for every app of its namespace. */
function targetAppOf(target: Fields): string | undefined {
  const mesh = target.get('mesh')
  if (mesh !== undefined) report(mesh, { message: 'only a Guardrail reaches the whole mesh' })
  const app = optional(target, 'app', segmentOf)
  const all = optional(target, 'namespace', trueOf)
  if (app !== undefined && all !== undefined) {
    report(target.cursor, { message: 'is either one app or its namespace, not both' })
  }
  const { node } = target.cursor
  if (node.kind === 'map' && !['app', 'namespace', 'mesh'].some((name) => node.entries.has(name))) {
    report(target.cursor, { message: 'must name an app, or namespace: true for every app' })
  }
  return app
}

/** A guardrail belongs to no namespace, so its target names one. */
function reachOf(target: Fields): GuardrailReach | undefined {
  const mesh = optional(target, 'mesh', trueOf)
  const app = optional(target, 'app', segmentOf)
  const namespace = optional(target, 'namespace', guardedNamespaceOf)
  if (mesh !== undefined) {
    if (app !== undefined || namespace !== undefined) {
      report(target.cursor, { message: 'is either the mesh or a part of it, not both' })
    }
    return { kind: 'mesh' }
  }
  if (namespace === undefined) {
    if (target.get('namespace') === undefined) {
      report(target.cursor, {
        message: 'must say mesh: true, or name a namespace and perhaps an app of it',
      })
    }
    return undefined
  }
  return app === undefined ? { kind: 'namespace', namespace } : { kind: 'app', namespace, app }
}

function guardedNamespaceOf(cursor: Cursor): string {
  if (scalarOf(cursor) !== true) return segmentOf(cursor)
  report(cursor, { message: 'a guardrail has no namespace of its own', hint: 'name the namespace' })
  return ''
}

const MAX_PORTS = 64

function portsOf(cursor: Cursor): readonly number[] {
  const items = itemsOf(cursor)
  if (items.length > MAX_PORTS) report(cursor, { message: `must have at most ${MAX_PORTS} items` })
  return items.map(portOf)
}

function portOf(cursor: Cursor): number {
  const value = scalarOf(cursor)
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65_535)
    return value
  report(cursor, { message: 'must be a port from 1 to 65535' })
  return 0
}

function policyTestOf(fields: Fields): PolicyTest {
  const spec = required(fields, 'spec', (cursor) => fieldsOf(cursor, { known: ['cases'] }))
  return {
    kind: 'PolicyTest',
    ...metadataOf(fields),
    cases: (spec && required(spec, 'cases', (cursor) => itemsOf(cursor).map(caseOf))) ?? [],
  }
}

function caseOf(cursor: Cursor): TestCase {
  const fields = fieldsOf(cursor, { known: ['from', 'to', 'expect', 'rule'] })
  const to = required(fields, 'to', (call) =>
    fieldsOf(call, { known: ['app', 'method', 'path', 'grpc', 'tcp', 'port'] }),
  )
  return {
    from: required(fields, 'from', callerOf) ?? 'unauthenticated',
    app: (to && required(to, 'app', segmentOf)) ?? '',
    port: to && optional(to, 'port', portOf),
    call: (to && callOf(to)) ?? { kind: 'tcp' },
    expect: required(fields, 'expect', (expect) => oneOf(expect, ['allow', 'deny'])) ?? 'deny',
    rule: optional(fields, 'rule', ruleNameOf),
  }
}

function callerOf(cursor: Cursor): TestCase['from'] | undefined {
  if (scalarOf(cursor) === 'unauthenticated') return 'unauthenticated'
  return textThat(cursor, parseWorkloadId)
}

function callOf(to: Fields): TestCall | undefined {
  const method = optional(to, 'method', testMethodOf)
  const path = optional(to, 'path', textOf)
  const grpc = optional(to, 'grpc', (cursor) => patternOf(cursor, grpcCallFault))
  const tcp = optional(to, 'tcp', trueOf)
  const http = method ?? path
  if ([http, grpc, tcp].filter((part) => part !== undefined).length !== 1) {
    report(to.cursor, { message: 'must be one call: method and path, or grpc, or tcp: true' })
    return undefined
  }
  if (grpc !== undefined) return { kind: 'grpc', method: grpc }
  if (tcp !== undefined) return { kind: 'tcp' }
  if (method === undefined || path === undefined) {
    report(to.cursor, { message: 'an HTTP call needs both method and path' })
    return undefined
  }
  return { kind: 'http', method, path }
}

function testMethodOf(cursor: Cursor): string {
  const text = textOf(cursor)
  if (text !== '' && !isMethod(text)) report(cursor, { message: `${quoted(text)} is not a method` })
  return text
}

function grpcCallFault(text: string): ReturnType<typeof grpcPatternFault> {
  if (text.endsWith('/*')) return { fault: 'a call names one method' }
  return grpcPatternFault(text)
}

function ruleNameOf(cursor: Cursor): string {
  const text = textOf(cursor)
  if (text !== '' && !/^[^/]+\/[^/]+$/.test(text)) {
    report(cursor, { message: `${quoted(text)} must be <policy>/<rule>` })
  }
  return text
}

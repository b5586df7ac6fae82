import { parseTrustDomain, parseWorkloadId, SpiffeError } from '../spiffe/index.js'
import { isMethod } from './canonical.js'
import { canonicalJson, type Json } from './canonical-json.js'
import { PolicyError } from './errors.js'
import { layouts } from './layout.js'
import { grpcPatternFault, pathPatternFault } from './pattern.js'
import type { Operation } from './policy.js'
import { type Aliases, ANY, sourceFault, UNAUTHENTICATED } from './selectors.js'
import {
  SNAPSHOT_FORMAT,
  type Snapshot,
  type SnapshotApp,
  type SnapshotPolicy,
  type SnapshotRule,
  snapshotFeatures,
  snapshotIdOf,
} from './snapshot.js'

const MAX_BYTES = 64 * 1024 * 1024

/**
 * Reads a snapshot. Throws `CS_SNAPSHOT_INCOMPATIBLE` when it needs a feature that this reader does
 * not have, and `CS_SNAPSHOT_INVALID` for everything else that is not exactly as it should be.
 */
export function readSnapshot(bytes: Uint8Array): Snapshot {
  if (bytes.byteLength > MAX_BYTES) throw invalid(`snapshot is longer than ${MAX_BYTES} bytes`)
  const json = jsonOf(bytes)
  assertCompatible(json)
  try {
    return snapshotOf(json, snapshotIdOf(bytes))
  } catch (cause) {
    if (cause instanceof SpiffeError) throw invalid(cause.message, { cause })
    throw cause
  }
}

type JsonMap = Readonly<Record<string, Json | undefined>>

const invalid = (message: string, options?: ErrorOptions) =>
  new PolicyError('CS_SNAPSHOT_INVALID', message, options)

function jsonOf(bytes: Uint8Array): JsonMap {
  let text: string
  let json: Json
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    json = JSON.parse(text) as Json
  } catch (cause) {
    throw invalid('snapshot is not JSON', { cause })
  }
  // Two texts for one content would be two ids for one policy.
  if (!isCanonical(json, text)) throw invalid('snapshot is not in canonical form')
  return mapOf(json, 'snapshot')
}

function isCanonical(json: Json, text: string): boolean {
  try {
    return canonicalJson(json) === text
  } catch {
    return false
  }
}

function assertCompatible({ format, requires }: JsonMap): void {
  if (format !== SNAPSHOT_FORMAT) {
    throw new PolicyError(
      'CS_SNAPSHOT_INCOMPATIBLE',
      `snapshot has format ${JSON.stringify(format)}`,
    )
  }
  const known: readonly string[] = snapshotFeatures
  const unknown = textsOf(requires, 'requires').filter((feature) => !known.includes(feature))
  if (unknown.length > 0) {
    throw new PolicyError('CS_SNAPSHOT_INCOMPATIBLE', `snapshot requires ${unknown.join(', ')}`)
  }
}

const SNAPSHOT_FIELDS = new Set(
  'format requires trustDomain target generation aliases app policies guardrails shadow'.split(' '),
)

function snapshotOf(json: JsonMap, id: string): Snapshot {
  assertFields(json, SNAPSHOT_FIELDS)
  const { generation } = json
  if (!Number.isSafeInteger(generation) || Number(generation) < 0) {
    throw invalid('generation must be a whole number')
  }
  const { shadow, unreadableShadow } = shadowOf(json['shadow'])
  return {
    id,
    generation: Number(generation),
    trustDomain: parseTrustDomain(textOf(json['trustDomain'], 'trustDomain')),
    target: parseWorkloadId(textOf(json['target'], 'target')),
    app: appOf(mapOf(json['app'], 'app')),
    aliases: aliasesOf(mapOf(json['aliases'], 'aliases')),
    policies: listOf(json['policies'], 'policies').map((item) => policyOf(item, 'AccessPolicy')),
    guardrails: listOf(json['guardrails'], 'guardrails').map((item) => policyOf(item, 'Guardrail')),
    shadow,
    unreadableShadow,
  }
}

const APP_FIELDS = new Set(['layout', 'namespace', 'name'])

function appOf(json: JsonMap): SnapshotApp {
  assertFields(json, APP_FIELDS)
  const layout = layouts.find((name) => name === json['layout'])
  if (layout === undefined) throw invalid(`unknown layout ${JSON.stringify(json['layout'])}`)
  if (json['name'] === undefined) return { layout, app: undefined }
  const namespace = textOf(json['namespace'], 'namespace')
  return { layout, app: { namespace, app: textOf(json['name'], 'name') } }
}

function aliasesOf(json: JsonMap): Aliases {
  return new Map(
    Object.entries(json).map(([name, members]) => [
      parseTrustDomain(name),
      textsOf(members, `aliases.${name}`).map(parseTrustDomain),
    ]),
  )
}

/** A newer sentry may try rules in shadow that this reader cannot judge; they change nothing here. */
function shadowOf(json: Json | undefined): Pick<Snapshot, 'shadow' | 'unreadableShadow'> {
  const items = listOf(json, 'shadow')
  const shadow = items.flatMap((item) => {
    try {
      const { kind, ...rest } = mapOf(item, 'shadow')
      if (kind !== 'AccessPolicy' && kind !== 'Guardrail') return []
      return [policyOf(rest, kind)]
    } catch (error) {
      if (error instanceof PolicyError) return []
      throw error
    }
  })
  return { shadow, unreadableShadow: items.length - shadow.length }
}

const POLICY_FIELDS = new Set(['name', 'ports', 'rules'])

function policyOf(json: Json, kind: SnapshotPolicy['kind']): SnapshotPolicy {
  const fields = mapOf(json, 'policy')
  assertFields(fields, POLICY_FIELDS)
  const rules = filledListOf(fields['rules'], 'rules').map(ruleOf)
  if (kind === 'Guardrail' && rules.some(({ action }) => action === 'allow')) {
    throw invalid('a guardrail only denies')
  }
  const ports = fields['ports']
  return {
    kind,
    name: textOf(fields['name'], 'name'),
    ports: ports === undefined ? undefined : filledListOf(ports, 'ports').map(portOf),
    rules,
  }
}

function portOf(json: Json): number {
  if (typeof json === 'number' && Number.isInteger(json) && json > 0 && json < 65_536) return json
  throw invalid('port must be a number from 1 to 65535')
}

const RULE_FIELDS = new Set('name action from to notBefore expires reason'.split(' '))

function ruleOf(json: Json): SnapshotRule {
  const fields = mapOf(json, 'rule')
  assertFields(fields, RULE_FIELDS)
  const { action, to, reason } = fields
  if (action !== 'allow' && action !== 'deny') throw invalid('action must be allow or deny')
  return {
    name: textOf(fields['name'], 'name'),
    action,
    from: filledListOf(fields['from'], 'from').map(sourceOf),
    to: to === undefined ? undefined : filledListOf(to, 'to').map(operationOf),
    notBefore: timeOf(fields['notBefore'], 'notBefore'),
    expires: timeOf(fields['expires'], 'expires'),
    reason: reason === undefined ? undefined : textOf(reason, 'reason'),
  }
}

function sourceOf(json: Json): string {
  const text = textOf(json, 'from')
  if (text === ANY || text === UNAUTHENTICATED || sourceFault(text) === undefined) return text
  throw invalid(`not a source: ${JSON.stringify(text)}`)
}

const HTTP_FIELDS = new Set(['methods', 'paths'])
const GRPC_FIELDS = new Set(['grpc'])
const TCP_FIELDS = new Set(['tcp'])

function operationOf(json: Json): Operation {
  const fields = mapOf(json, 'operation')
  if (fields['tcp'] !== undefined) {
    assertFields(fields, TCP_FIELDS)
    if (fields['tcp'] !== true) throw invalid('tcp must be true')
    return { kind: 'tcp' }
  }
  if (fields['grpc'] !== undefined) {
    assertFields(fields, GRPC_FIELDS)
    const methods = patternsOf(fields['grpc'], (text) => grpcPatternFault(text) === undefined)
    return { kind: 'grpc', methods }
  }
  assertFields(fields, HTTP_FIELDS)
  const { methods, paths } = fields
  return {
    kind: 'http',
    methods: methods === undefined ? undefined : patternsOf(methods, isMethod),
    paths:
      paths === undefined
        ? undefined
        : patternsOf(paths, (text) => pathPatternFault(text) === undefined),
  }
}

function patternsOf(json: Json | undefined, isGood: (text: string) => boolean): readonly string[] {
  const texts = filledListOf(json, 'operation').map((item) => textOf(item, 'operation'))
  const bad = texts.find((text) => !isGood(text))
  if (bad !== undefined) throw invalid(`not a method or pattern: ${JSON.stringify(bad)}`)
  return texts
}

function timeOf(json: Json | undefined, name: string): number | undefined {
  if (json === undefined) return undefined
  const text = textOf(json, name)
  const at = Date.parse(text)
  if (Number.isNaN(at) || new Date(at).toISOString() !== text)
    throw invalid(`${name} is not a time`)
  return at
}

function assertFields(json: JsonMap, known: ReadonlySet<string>): void {
  for (const name of Object.keys(json)) {
    if (!known.has(name)) throw invalid(`unknown field ${JSON.stringify(name)}`)
  }
}

function mapOf(json: Json | undefined, name: string): JsonMap {
  if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json as JsonMap
  throw invalid(`${name} must be a map`)
}

function listOf(json: Json | undefined, name: string): readonly Json[] {
  if (Array.isArray(json)) return json as readonly Json[]
  throw invalid(`${name} must be a list`)
}

/** An empty list would match nothing, or everything, and nobody means either. */
function filledListOf(json: Json | undefined, name: string): readonly Json[] {
  const items = listOf(json, name)
  if (items.length === 0) throw invalid(`${name} must not be empty`)
  return items
}

function textsOf(json: Json | undefined, name: string): readonly string[] {
  return listOf(json, name).map((item) => textOf(item, name))
}

function textOf(json: Json | undefined, name: string): string {
  if (typeof json === 'string') return json
  throw invalid(`${name} must be a text`)
}

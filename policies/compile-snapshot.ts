import { isDeepStrictEqual } from 'node:util'
import { parseSpiffeId, type SpiffeId } from '../spiffe/index.js'
import { bindCaller } from './bind.js'
import { canonicalise } from './canonical.js'
import { type CompiledPolicy, type CompiledRule, compilePolicy } from './compile.js'
import { type AccessRequest, decide, rawConnection } from './decide.js'
import type { Decision } from './decision.js'
import { PolicyError } from './errors.js'
import { type LinearQuestion, linearPolicy } from './linear.js'
import { pathOfGrpc } from './pattern.js'
import { ANY, UNAUTHENTICATED } from './selectors.js'
import type { Snapshot } from './snapshot.js'

/** Each sample costs one pass over all rules. */
const SAMPLES = 8

/**
 * Makes a snapshot ready to decide and tries it out: on calls made from its own rules it must decide
 * as the linear reference does. Throws `CS_SNAPSHOT_INVALID`.
 */
export function compileSnapshot(snapshot: Snapshot): CompiledPolicy {
  const compiled = compilePolicy(snapshot)
  const { rules } = compiled.engine
  const reference = linearPolicy(snapshot)
  const step = Math.max(1, Math.floor(rules.length / SAMPLES))
  for (let at = 0; at < rules.length; at += step) {
    const rule = rules[at]
    if (rule !== undefined) assertDecidesAlike({ compiled, reference, rule })
  }
  return compiled
}

function assertDecidesAlike(options: {
  readonly compiled: CompiledPolicy
  readonly reference: (question: LinearQuestion) => Decision
  readonly rule: CompiledRule
}): void {
  const { compiled, reference, rule } = options
  const { notBefore, expires } = rule.rule
  const now = notBefore ?? (expires === undefined ? 0 : expires - 1)
  const caller = sampleCaller(rule)
  const request = sampleRequest(rule)
  const [port] = rule.ports ?? []
  const bound = bindCaller(compiled, caller, port === undefined ? {} : { port })
  const found = decide(bound, request, now)
  if (!isDeepStrictEqual(found, reference({ caller, port, request, now }))) {
    const message = `compiled snapshot decides wrongly on ${rule.label}`
    throw new PolicyError('CS_SNAPSHOT_INVALID', message)
  }
}

function sampleCaller({ sources }: CompiledRule): SpiffeId | undefined {
  const [source = UNAUTHENTICATED] = sources
  if (source === UNAUTHENTICATED) return undefined
  return parseSpiffeId(source === ANY ? 'spiffe://self.test/x' : withoutWildcards(source))
}

function sampleRequest({ rule }: CompiledRule): AccessRequest {
  const [operation] = rule.to ?? []
  if (operation === undefined || operation.kind === 'tcp') return rawConnection
  const isGrpc = operation.kind === 'grpc'
  const pattern = isGrpc ? pathOfGrpc(operation.methods[0] ?? '') : (operation.paths?.[0] ?? '/x')
  const method = (isGrpc ? undefined : operation.methods?.[0]) ?? 'POST'
  const request = canonicalise({ method, target: withoutWildcards(pattern) })
  return 'malformed' in request ? rawConnection : request
}

const withoutWildcards = (pattern: string) => pattern.replaceAll(/\{\*{1,2}\}/g, 'x')

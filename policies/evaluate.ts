import type { SpiffeId, TrustDomain } from '../spiffe/index.js'
import { bindCaller } from './bind.js'
import { canonicalise, type Malformed } from './canonical.js'
import type { CompiledPolicy } from './compile.js'
import { compileSnapshot } from './compile-snapshot.js'
import { type AccessRequest, decide, rawConnection } from './decide.js'
import { type Decision, malformedDecision } from './decision.js'
import type { Layout } from './layout.js'
import type { PolicyDocument, TestCall, UnauthenticatedDetail } from './policy.js'
import type { Aliases } from './selectors.js'
import { buildSnapshot, type Snapshot } from './snapshot.js'
import { readSnapshot } from './snapshot-read.js'

/** What documents mean in one deployment. */
export interface Deployment {
  readonly trustDomain: TrustDomain
  readonly layout: Layout
  readonly aliases?: Aliases
}

/** A call as people write it down, not yet canonical. */
export interface Question {
  readonly caller: SpiffeId | undefined
  readonly unauthenticatedBecause?: UnauthenticatedDetail
  readonly call: TestCall
  /** `undefined` asks for every port that the policies name. */
  readonly port: number | undefined
  readonly now: number
}

/** One answer to a question, and the port that it holds for. */
export interface Answer {
  readonly port: number | undefined
  readonly decision: Decision
}

/** The policies of one target as a proxy would enforce them: built, read back and compiled. */
export function compiledFor(
  target: SpiffeId,
  options: Deployment & { readonly documents: Iterable<PolicyDocument> },
): CompiledPolicy {
  const { bytes } = buildSnapshot({ ...options, target, generation: 0 })
  return compileSnapshot(readSnapshot(bytes))
}

/** The answers on each port that is asked about; one for all when no port matters. */
export function answersTo(policy: CompiledPolicy, question: Question): readonly Answer[] {
  const { caller, unauthenticatedBecause, call, now } = question
  const request = requestOf(call)
  return portsAsked(policy.snapshot, question.port).map((port) => {
    if ('malformed' in request) return { port, decision: malformedDecision(request.malformed) }
    const bound = bindCaller(policy, caller, {
      ...(port === undefined ? {} : { port }),
      ...(unauthenticatedBecause === undefined ? {} : { unauthenticatedBecause }),
    })
    return { port, decision: decide(bound, request, now) }
  })
}

/** The call as the proxy sees it. */
export function requestOf(call: TestCall): AccessRequest | Malformed {
  switch (call.kind) {
    case 'http':
      return canonicalise({ method: call.method, target: call.path })
    case 'grpc':
      return canonicalise({ method: 'POST', target: `/${call.method}` })
    case 'tcp':
      return rawConnection
  }
}

/** The ports that documents of the target name, or the one that is asked about. */
export function portsAsked(
  { policies, guardrails, shadow }: Snapshot,
  port: number | undefined,
): readonly (number | undefined)[] {
  if (port !== undefined) return [port]
  const named = [...policies, ...guardrails, ...shadow].flatMap(({ ports }) => ports ?? [])
  if (named.length === 0) return [undefined]
  return [...new Set(named)].sort((left, right) => left - right)
}

import { type SpiffeId, trustDomainOf } from '../spiffe/index.js'
import { documentToJson } from './document-json.js'
import { appOfId } from './layout.js'
import type { LinearQuestion } from './linear.js'
import { grpcPatternFault, ONE, pathPatternFault } from './pattern.js'
import type { AccessPolicy, Operation, Selector, TestCall } from './policy.js'
import type { Snapshot } from './snapshot.js'

/** A policy with one rule that allows one call and nothing else that can be left out. */
export interface Suggestion {
  readonly document: AccessPolicy
  /** As canonical JSON, ready to apply. */
  readonly json: string
}

/** `undefined` for a target that no AccessPolicy can name, and for a path that no pattern can. */
export function suggestRule(
  snapshot: Snapshot,
  question: LinearQuestion & { readonly call: TestCall },
): Suggestion | undefined {
  const { app } = snapshot.app
  const operation = operationFor(question)
  if (app === undefined || operation === undefined) return undefined
  const { caller, port } = question
  const document: AccessPolicy = {
    kind: 'AccessPolicy',
    name: `allow-${callerName(caller)}-to-${app.app}`.slice(0, MAX_NAME),
    namespace: app.namespace,
    app: app.app,
    ports: port === undefined ? undefined : [port],
    mode: 'enforce',
    rules: [
      {
        name: 'suggested',
        action: 'allow',
        mode: 'enforce',
        from: [selectorFor(snapshot, caller)],
        to: [operation],
        notBefore: undefined,
        expires: undefined,
        reason: undefined,
      },
    ],
  }
  return { document, json: documentToJson(document) }
}

const MAX_NAME = 253

const callerName = (caller: SpiffeId | undefined) =>
  caller === undefined ? 'unauthenticated' : (caller.split('/').at(-1) ?? 'caller')

/** The shortest selector that names exactly this caller. */
function selectorFor(
  { app, trustDomain: local }: Snapshot,
  caller: SpiffeId | undefined,
): Selector {
  if (caller === undefined) return { kind: 'unauthenticated' }
  const named = appOfId(app.layout, caller)
  if (named === undefined) return { kind: 'spiffeId', pattern: caller }
  const trustDomain = trustDomainOf(caller)
  return {
    kind: 'app',
    app: named.app,
    namespace: named.namespace === app.app?.namespace ? undefined : named.namespace,
    trustDomain: trustDomain === local ? undefined : trustDomain,
  }
}

function operationFor({
  call,
  request,
}: LinearQuestion & { readonly call: TestCall }): Operation | undefined {
  if (request.kind === 'tcp') return { kind: 'tcp' }
  if (call.kind === 'grpc' && grpcPatternFault(call.method) === undefined) {
    return { kind: 'grpc', methods: [call.method] }
  }
  const { method, path } = request
  if (path === '*') return { kind: 'http', methods: [method], paths: undefined }
  const pattern = patternFor(path)
  return pathPatternFault(pattern) === undefined
    ? { kind: 'http', methods: [method], paths: [pattern] }
    : undefined
}

/** The path itself; a segment that no literal may spell becomes a wildcard. */
function patternFor(path: string): string {
  const segments = path.split('/').map((segment) => (/[{}*]/.test(segment) ? ONE : segment))
  return segments.join('/')
}

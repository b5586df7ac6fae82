import { PolicyError } from './errors.js'
import type { Operation, PolicyDocument, Rule } from './policy.js'
import { MAX_PLACEMENTS } from './sector.js'

/**
 * Refuses documents that together give one app more to enforce than a proxy takes, before they are
 * stored and no proxy can follow. Throws `CS_POLICY_INVALID`.
 */
export function assertEnforceable(documents: readonly PolicyDocument[]): void {
  const weights = new Map<string, number>()
  for (const document of documents) {
    const key = reachOf(document)
    if (key !== undefined) weights.set(key, (weights.get(key) ?? 0) + weightOf(document))
  }
  const weightAt = (key: string) => weights.get(key) ?? 0
  for (const key of weights.keys()) {
    const [namespace = ''] = key.split('/')
    const above = key === namespace ? 0 : weightAt(namespace)
    const total = weightAt(key) + above + (key === MESH ? 0 : weightAt(MESH))
    if (total > MAX_PLACEMENTS) {
      const message = `policies for ${key} make more than ${MAX_PLACEMENTS} combinations of caller and pattern`
      throw new PolicyError('CS_POLICY_INVALID', message)
    }
  }
}

/** No namespace has this name. */
const MESH = '*'

/** `namespace/app`, a namespace, or the mesh. */
function reachOf(document: PolicyDocument): string | undefined {
  switch (document.kind) {
    case 'AccessPolicy': {
      const { namespace, app } = document
      return app === undefined ? namespace : `${namespace}/${app}`
    }
    case 'Guardrail': {
      const { reach } = document
      if (reach.kind === 'mesh') return MESH
      return reach.kind === 'app' ? `${reach.namespace}/${reach.app}` : reach.namespace
    }
    case 'PolicyTest':
      return undefined
  }
}

const weightOf = (document: PolicyDocument): number =>
  document.kind === 'PolicyTest'
    ? 0
    : document.rules.reduce((sum, rule) => sum + combinationsOf(rule), 0)

/** One for each caller and pattern, as a proxy holds them. */
export function combinationsOf({ from, to }: Pick<Rule, 'from' | 'to'>): number {
  const patterns = (to ?? []).reduce((sum, operation) => sum + patternCount(operation), 0)
  return from.length * Math.max(1, patterns)
}

function patternCount(operation: Operation): number {
  switch (operation.kind) {
    case 'http':
      return operation.paths?.length ?? 1
    case 'grpc':
      return operation.methods.length
    case 'tcp':
      return 1
  }
}

import { parseSpiffeId, type SpiffeId } from '../../spiffe/index.js'
import type { TableSpec } from '../datastore/table.js'
import type { AdmittedDocument, DocumentRef } from './compiler.js'

export interface PolicyDocument extends AdmittedDocument {
  /** Grows by one with every change of the document. */
  readonly revision: bigint
  /** Milliseconds since 1970. */
  readonly updatedAt: number
  /** Under which targets find it; see `PolicyCompiler.keysOfDocument`. */
  readonly keys: readonly string[]
}

/** What one target is to enforce, as it was last compiled. */
export interface PolicyTarget {
  readonly target: SpiffeId
  /** Grows by one with every change of the content, and never starts again. */
  readonly generation: bigint
  readonly contentKey: string
  /** SHA-256 of the content, lower-case hex. */
  readonly id: string
  /** Canonical JSON. */
  readonly content: string
}

export const policyTable: TableSpec<PolicyDocument, 'key'> = {
  kind: 'policy-document',
  indexes: ['key'],
  keyOf: ({ ref }) => nameOfDocument(ref),
  termsOf: (_, { keys }) => keys,
  encode: (document) => JSON.stringify({ ...document, revision: String(document.revision) }),
  decode(payload) {
    const stored = JSON.parse(payload) as Omit<PolicyDocument, 'revision'> & {
      readonly revision: string
    }
    return { ...stored, revision: BigInt(stored.revision) }
  },
}

export const policyTargetTable: TableSpec<PolicyTarget> = {
  kind: 'policy-target',
  indexes: [],
  keyOf: ({ target }) => target,
  termsOf: () => [],
  encode: (target) => JSON.stringify({ ...target, generation: String(target.generation) }),
  decode(payload) {
    const stored = JSON.parse(payload) as Omit<PolicyTarget, 'target' | 'generation'> & {
      readonly target: string
      readonly generation: string
    }
    return {
      ...stored,
      target: parseSpiffeId(stored.target),
      generation: BigInt(stored.generation),
    }
  },
}

/** `AccessPolicy/shop/orders`; the namespace is empty where a kind has none. */
export function nameOfDocument({ kind, namespace, name }: DocumentRef): string {
  return `${kind}/${namespace}/${name}`
}

import type { SpiffeId } from '../../spiffe/index.js'

export interface DocumentRef {
  /** AccessPolicy, Guardrail or PolicyTest. */
  readonly kind: string
  /** Empty for kinds without a namespace. */
  readonly namespace: string
  readonly name: string
}

/** A document that passed admission. */
export interface AdmittedDocument {
  readonly ref: DocumentRef
  /** The document as canonical JSON. */
  readonly json: string
}

export interface AdmissionRequest {
  /** YAML or JSON, one or more documents. */
  readonly text: string
  /** Shown in refusals, for example a file name. */
  readonly source: string
  /** Every document that is stored now. */
  readonly existing: readonly AdmittedDocument[]
}

export interface RemovalRequest {
  readonly removed: readonly AdmittedDocument[]
  /** Every document that is stored now, those to be removed among them. */
  readonly existing: readonly AdmittedDocument[]
}

export interface CompiledSnapshot {
  /** Canonical JSON. */
  readonly bytes: Uint8Array
  /** SHA-256 of `bytes`, lower-case hex. */
  readonly id: string
}

/**
 * The policy language as the sentry needs it. The sentry stores, numbers, signs and hands out; what
 * a document means is settled behind this interface.
 */
export interface PolicyCompiler {
  /** All documents of the text, or an error with a `CS_POLICY_…` code. */
  admit(request: AdmissionRequest): readonly AdmittedDocument[]
  /** Throws a `CS_POLICY_…` code when what stays needs what is removed. */
  admitRemoval(request: RemovalRequest): void
  /**
   * Where a document is filed and where a target looks: a document can concern a target only when
   * the two share a key. A document without a target (a PolicyTest) has no key.
   */
  keysOfDocument(document: AdmittedDocument): readonly string[]
  keysOfTarget(target: SpiffeId): readonly string[]
  /** Equal for equal snapshots but for the generation. `documents` are those that share a key with the target. */
  contentKey(request: {
    readonly target: SpiffeId
    readonly documents: readonly AdmittedDocument[]
  }): string
  snapshot(request: {
    readonly target: SpiffeId
    readonly documents: readonly AdmittedDocument[]
    readonly generation: bigint
  }): CompiledSnapshot
}

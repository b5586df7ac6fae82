import type { Selector } from '../identities/identities.js'
import type { PinnedProcess, RunningBinary } from './process.js'

/** What is certain about a process at one moment: the kernel said it, and says it still. */
export interface ProcessFacts {
  readonly pid: number
  readonly startTime: bigint
  readonly uid: number
  readonly gid: number
  readonly groups: readonly number[]
  /** Undefined where the agent may not look. */
  readonly binary: RunningBinary | undefined
}

export interface AttestationRequest {
  readonly facts: ProcessFacts
  readonly process: PinnedProcess
  readonly signal: AbortSignal
}

/**
 * Turns facts about a process into selectors. It states what it saw and leaves out what it could not
 * see; it never chooses an identity. What it throws costs the caller its selectors and nobody else.
 */
export interface WorkloadAttestor {
  /** The type of its selectors; nothing else may make selectors of that type. */
  readonly name: string
  attest(request: AttestationRequest): Promise<readonly Selector[]>
}

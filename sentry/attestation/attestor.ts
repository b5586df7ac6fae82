import type { SpiffeId } from '../../spiffe/index.js'
import type { Draft } from '../datastore/draft.js'
import type { Selector } from '../registration/selector.js'

/** What an attestor saw, and who the node is by it. */
export interface AttestedNode {
  readonly agentId: SpiffeId
  readonly selectors: readonly Selector[]
  /** Whether the same evidence will do again. */
  readonly canReattest: boolean
  /** Uses the evidence up, in the write that records the agent: either both happen or neither. */
  readonly claim?: (draft: Draft) => void
}

/** Asks the agent something that only the node can answer, and waits for the answer. */
export type Challenge = (challenge: Uint8Array) => Promise<Uint8Array>

/** Turns the evidence of a node into an identity. Throws a coded refusal when it does not hold. */
export interface Attestor {
  /** As agents name it, `join_token` for example. */
  readonly type: string
  attest(payload: Uint8Array, challenge: Challenge): Promise<AttestedNode>
}

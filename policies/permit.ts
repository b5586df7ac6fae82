import type { SpiffeId } from '../spiffe/index.js'
import type { BoundCaller } from './bind.js'
import { type AccessRequest, decide } from './decide.js'
import type { AllowDecision, DenyDecision } from './decision.js'

declare const permitted: unique symbol

/** Proof that a policy allowed this caller to do this. Only {@link authorize} makes one. */
export interface Permit {
  readonly [permitted]: true
  /** `undefined` for a caller that a rule lets in without a verified SPIFFE ID. */
  readonly peer: SpiffeId | undefined
  /** What was decided on, and so what is forwarded. */
  readonly request: AccessRequest
  /** `<policy>/<rule>`. */
  readonly rule: string
}

export type Verdict =
  | { readonly permit: Permit; readonly decision: AllowDecision }
  | { readonly permit: undefined; readonly decision: DenyDecision }

export function authorize(bound: BoundCaller, request: AccessRequest, now: number): Verdict {
  const decision = decide(bound, request, now)
  if (decision.effect === 'deny') return { permit: undefined, decision }
  const { policy, rule } = decision
  const permit = { peer: bound.caller, request, rule: `${policy}/${rule}` } as Permit
  return { permit, decision }
}

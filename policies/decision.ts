import type { MalformedCode } from './canonical.js'
import type { UnauthenticatedDetail } from './policy.js'

/** The answer to one request or connection. Silence is no: what no rule names is denied. */
export type Decision = AllowDecision | DenyDecision

export interface AllowDecision extends Decided {
  readonly effect: 'allow'
  readonly reason: 'allow-rule'
}

export type DenyDecision =
  | (Decided & { readonly effect: 'deny'; readonly reason: 'deny-rule' | 'guardrail' })
  | {
      readonly effect: 'deny'
      readonly reason: 'no-rule' | 'no-snapshot'
      readonly shadow: ShadowVerdict | undefined
    }
  | {
      readonly effect: 'deny'
      readonly reason: 'unauthenticated'
      readonly detail: UnauthenticatedDetail
      readonly shadow: ShadowVerdict | undefined
    }
  | {
      readonly effect: 'deny'
      readonly reason: `malformed:${MalformedCode}`
      readonly shadow: undefined
    }

/** A decision by a rule; among several that match, by the lowest `<policy>/<rule>` in byte order. */
interface Decided {
  /** Name of the AccessPolicy or Guardrail. */
  readonly policy: string
  readonly rule: string
  /** The path or gRPC pattern that matched; `undefined` for a rule that is not about one. */
  readonly pattern: string | undefined
  readonly shadow: ShadowVerdict | undefined
}

/** What would be decided if the shadow rules were enforced too; present only if one of them matches. */
export interface ShadowVerdict {
  readonly effect: 'allow' | 'deny'
  /** `undefined` when the verdict is the same. */
  readonly direction: 'would_allow' | 'would_deny' | undefined
  /** The shadow rule that decides it. */
  readonly policy: string
  readonly rule: string
}

/** The decision on a request that was refused before any policy was asked. */
export function malformedDecision(code: MalformedCode): DenyDecision {
  return { effect: 'deny', reason: `malformed:${code}`, shadow: undefined }
}

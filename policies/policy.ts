import type { SpiffeId, TrustDomain } from '../spiffe/index.js'

export const API_VERSION = 'countersign.dev/v1'

/** What people write: who may call what, what nobody may, and what is expected of both. */
export type PolicyDocument = AccessPolicy | Guardrail | PolicyTest

/** Of the owner of the called apps. Order never matters: a matching deny wins, else a matching allow. */
export interface AccessPolicy {
  readonly kind: 'AccessPolicy'
  readonly name: string
  readonly namespace: string
  /** Without an app, every app of the namespace. */
  readonly app: string | undefined
  /** Ports of the app; `undefined` for all of them. */
  readonly ports: readonly number[] | undefined
  readonly mode: Mode
  readonly rules: readonly Rule[]
}

/** Of the mesh administrators. It only denies, and no policy of an app overrides it. */
export interface Guardrail {
  readonly kind: 'Guardrail'
  readonly name: string
  readonly reach: GuardrailReach
  readonly ports: readonly number[] | undefined
  readonly mode: Mode
  readonly rules: readonly Rule[]
}

export type GuardrailReach =
  | { readonly kind: 'mesh' }
  | { readonly kind: 'namespace'; readonly namespace: string }
  | { readonly kind: 'app'; readonly namespace: string; readonly app: string }

/** Expectations that must hold whenever documents are stored. */
export interface PolicyTest {
  readonly kind: 'PolicyTest'
  readonly name: string
  readonly namespace: string
  readonly cases: readonly TestCase[]
}

export interface TestCase {
  readonly from: SpiffeId | 'unauthenticated'
  readonly app: string
  /** `undefined` when the verdict is the same on every port that the policies name. */
  readonly port: number | undefined
  readonly call: TestCall
  readonly expect: 'allow' | 'deny'
  /** `<policy>/<rule>` that decides. */
  readonly rule: string | undefined
}

export type TestCall =
  | { readonly kind: 'http'; readonly method: string; readonly path: string }
  | { readonly kind: 'grpc'; readonly method: string }
  | { readonly kind: 'tcp' }

/** In `shadow` a rule is judged and reported but never changes a verdict. */
export type Mode = 'enforce' | 'shadow'

export type Action = 'allow' | 'deny'

export interface Rule {
  readonly name: string
  readonly action: Action
  readonly mode: Mode
  /** One of these must match. */
  readonly from: readonly Selector[]
  /** One of these must match; `undefined` for every operation on the ports of the target. */
  readonly to: readonly Operation[] | undefined
  /** Milliseconds since 1970. Before this moment the rule does not exist. */
  readonly notBefore: number | undefined
  /** Milliseconds since 1970. From this moment on the rule does not exist. */
  readonly expires: number | undefined
  readonly reason: string | undefined
}

/** Who calls. A trust domain left out is the local one, a namespace left out that of the document. */
export type Selector =
  | {
      readonly kind: 'app'
      readonly app: string
      readonly namespace: string | undefined
      readonly trustDomain: TrustDomain | undefined
    }
  | {
      readonly kind: 'namespace'
      readonly namespace: string
      readonly trustDomain: TrustDomain | undefined
    }
  | { readonly kind: 'trustDomain'; readonly trustDomain: TrustDomain }
  | { readonly kind: 'spiffeId'; readonly pattern: string }
  | { readonly kind: 'any' }
  | { readonly kind: 'unauthenticated' }

/** What is called. */
export type Operation =
  | {
      readonly kind: 'http'
      /** `undefined` for any; `GET` covers `HEAD`. */
      readonly methods: readonly string[] | undefined
      /** Path patterns; `undefined` for any path. */
      readonly paths: readonly string[] | undefined
    }
  | { readonly kind: 'grpc'; readonly methods: readonly string[] }
  | { readonly kind: 'tcp' }

/** Why a caller has no verified SPIFFE ID. */
export type UnauthenticatedDetail =
  | 'no-certificate'
  | 'no-identity-yet'
  | 'not-spiffe'
  | 'multiple-uri-san'
  | 'svid-expired'
  | 'unknown-trust-domain'
  | 'chain-invalid'

/** What tells documents of one kind apart: `shop/orders`, or the bare name of a guardrail. */
export function documentName(document: PolicyDocument): string {
  return document.kind === 'Guardrail' ? document.name : `${document.namespace}/${document.name}`
}

/** The same for documents of all kinds. */
export function documentKey(document: PolicyDocument): string {
  return `${document.kind} ${documentName(document)}`
}

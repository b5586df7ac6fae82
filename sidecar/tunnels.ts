import type { HostPort } from '../platform/listen.js'
import type { SpiffeId, TrustDomain } from '../spiffe/index.js'
import type { AppAddress } from './app.js'

/** mTLS in, plain bytes to the app. */
export interface InboundTunnel {
  /** What logs and metrics call it; `in-<port>` unless given. */
  readonly name?: string
  readonly listen: HostPort
  readonly app: AppAddress
  /** What the app speaks. Callers may use HTTP/1.1 or HTTP/2 whichever of the two the app speaks. */
  readonly protocol: 'http1' | 'h2c' | 'tcp'
  /** Methods beside the registered ones that are let through to the policy. */
  readonly methods?: readonly string[]
}

/** Plain bytes from the app, mTLS out. */
export interface OutboundTunnel {
  /** What logs and metrics call it; `out-<port>` unless given. */
  readonly name?: string
  readonly listen: HostPort
  /** `http` finds the route by Host; `tcp` uses the only one. */
  readonly protocol: 'http' | 'tcp'
  readonly routes: readonly Route[]
}

/** Where calls for a host go, and who must be there. */
export interface Route {
  /** Name of the host in lower case without port; `*` for every other. */
  readonly host: string
  readonly address: HostPort
  readonly expect: Expectation
}

/** Whom a route accepts at its address. */
export type Expectation =
  | { readonly kind: 'one-of'; readonly ids: readonly SpiffeId[] }
  | { readonly kind: 'member-of'; readonly trustDomain: TrustDomain }

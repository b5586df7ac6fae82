import type { Certificate } from '../../spiffe/index.js'
import type { SvidTemplate } from '../svid-template.js'
import type { TokenTemplate } from '../token-template.js'

/** The holder of an issuer's key. It adds nothing to a template but what its issuer always says. */
export interface X509Signer {
  readonly issuer: Certificate
  /** Returns the leaf first, then the intermediates up to but not including the root. */
  sign(template: SvidTemplate): readonly [Uint8Array, ...Uint8Array[]]
}

export type JwtAlgorithm = 'ES256' | 'RS256'

/** The holder of a key for JWT-SVIDs. */
export interface JwtSigner {
  readonly keyId: string
  readonly algorithm: JwtAlgorithm
  /** Milliseconds since 1970. No token may outlive it. */
  readonly expiresAt: number
  /** Returns the token in its compact form. */
  sign(template: TokenTemplate): string
}

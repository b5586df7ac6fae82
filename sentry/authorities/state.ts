import type { KeyObject } from 'node:crypto'
import type { TrustDomain } from '../../spiffe/index.js'
import type { SigningAuthority } from '../signing/certificate-builder.js'
import type { JwtAlgorithm } from '../signing/signer.js'

/** Everything the sealed file keeps. Immutable: a change is a new state. */
export interface AuthorityState {
  readonly trustDomain: TrustDomain
  readonly root: SigningAuthority
  readonly issuer: SigningAuthority
  /** Prepared, active and retired; every one of them is published. */
  readonly jwtKeys: readonly JwtKey[]
}

/** A key for JWT-SVIDs. Times are milliseconds since 1970. */
export interface JwtKey {
  readonly keyId: string
  readonly algorithm: JwtAlgorithm
  readonly notBefore: number
  /** Published from `notBefore` on, signs from here on. */
  readonly activeFrom: number
  readonly expiresAt: number
  readonly publicKey: KeyObject
  /** Gone as soon as a successor signs. */
  readonly privateKey: KeyObject | undefined
}

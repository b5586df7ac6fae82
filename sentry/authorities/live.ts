import type { JwtAuthority, TrustBundle } from '../../spiffe/index.js'
import { localJwtSigner } from '../signing/local-jwt-signer.js'
import { localX509Signer } from '../signing/local-x509-signer.js'
import type { JwtSigner, X509Signer } from '../signing/signer.js'
import type { AuthorityState } from './state.js'
import { tryJwtSigner, tryX509Signer } from './trial.js'

/** The public half of a trust domain's authorities. The same object as long as nothing changes. */
export interface BundleKeys {
  /** DER of the roots. */
  readonly x509: readonly Uint8Array[]
  readonly jwt: readonly PublishedJwtKey[]
}

export interface PublishedJwtKey {
  readonly keyId: string
  /** DER SubjectPublicKeyInfo. */
  readonly publicKeyInfo: Uint8Array
  /** Milliseconds since 1970. */
  readonly expiresAt: number
}

/** A state with everything that is made of it, tried and ready to be used. */
export interface LiveAuthorities {
  readonly state: AuthorityState
  readonly x509: X509Signer
  /** By key id; a retired key has none. */
  readonly jwt: ReadonlyMap<string, JwtSigner>
  readonly bundle: TrustBundle
  readonly bundleKeys: BundleKeys
}

/** Throws `CS_ISSUE_CHECK_FAILED` if one of the authorities does not sign what verifies. */
export async function goLive(state: AuthorityState, now: Date): Promise<LiveAuthorities> {
  const bundle = bundleOf(state)
  const x509 = await localX509Signer(state)
  const jwt = new Map(signersOf(state).map((signer) => [signer.keyId, signer]))
  tryX509Signer(x509, { bundle, now })
  for (const signer of jwt.values()) tryJwtSigner(signer, { bundle, now })
  return { state, x509, jwt, bundle, bundleKeys: bundleKeysOf(state) }
}

function signersOf({ jwtKeys }: AuthorityState): JwtSigner[] {
  return jwtKeys.flatMap(({ privateKey, ...key }) =>
    privateKey === undefined ? [] : [localJwtSigner({ ...key, privateKey })],
  )
}

function bundleOf({ trustDomain, root, jwtKeys }: AuthorityState): TrustBundle {
  const jwtAuthorities = jwtKeys.map(({ keyId, publicKey }): [string, JwtAuthority] => [
    keyId,
    { keyId, publicKey },
  ])
  return {
    trustDomain,
    x509Authorities: [root.certificate],
    jwtAuthorities: new Map(jwtAuthorities),
  }
}

function bundleKeysOf({ root, jwtKeys }: AuthorityState): BundleKeys {
  return {
    x509: [root.certificate.der],
    jwt: jwtKeys.map(({ keyId, publicKey, expiresAt }) => ({
      keyId,
      publicKeyInfo: new Uint8Array(publicKey.export({ type: 'spki', format: 'der' })),
      expiresAt,
    })),
  }
}

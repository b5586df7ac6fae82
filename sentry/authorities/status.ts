import type { SigningAuthority } from '../signing/certificate-builder.js'
import type { JwtAlgorithm } from '../signing/signer.js'
import { signingKey } from './jwt-rotation.js'
import type { AuthorityState, JwtKey } from './state.js'

/** What an operator wants to know. Times are milliseconds since 1970. */
export interface AuthoritiesStatus {
  readonly root: CertificateStatus
  readonly issuer: CertificateStatus
  readonly jwt: readonly JwtKeyStatus[]
}

export interface CertificateStatus {
  readonly serialNumber: string
  readonly keyId: string
  readonly notBefore: number
  readonly notAfter: number
}

export interface JwtKeyStatus {
  readonly keyId: string
  readonly algorithm: JwtAlgorithm
  readonly phase: 'prepared' | 'active' | 'retired'
  readonly activeFrom: number
  readonly expiresAt: number
}

export function statusOf(
  { root, issuer, jwtKeys }: AuthorityState,
  now: number,
): AuthoritiesStatus {
  return {
    root: certificateStatus(root),
    issuer: certificateStatus(issuer),
    jwt: jwtKeys.map((key) => {
      const { keyId, algorithm, activeFrom, expiresAt } = key
      return { keyId, algorithm, phase: phaseOf(jwtKeys, { key, now }), activeFrom, expiresAt }
    }),
  }
}

function certificateStatus({ certificate }: SigningAuthority): CertificateStatus {
  const { serialNumber, subjectKeyId = '', notBefore, notAfter } = certificate
  return { serialNumber, keyId: subjectKeyId, notBefore, notAfter }
}

function phaseOf(
  keys: readonly JwtKey[],
  { key, now }: { readonly key: JwtKey; readonly now: number },
): JwtKeyStatus['phase'] {
  if (signingKey(keys, { algorithm: key.algorithm, now }) === key) return 'active'
  return key.activeFrom > now ? 'prepared' : 'retired'
}

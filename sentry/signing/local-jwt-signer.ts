import { type KeyObject, sign } from 'node:crypto'
import type { TokenTemplate } from '../token-template.js'
import type { JwtAlgorithm, JwtSigner } from './signer.js'

const DIGEST = 'sha256'
/** JWS wants the two numbers of an ECDSA signature at their fixed length; RSA ignores the setting. */
const SIGNATURE_FORM = 'ieee-p1363'

/** A signer with its key in this process: the claims as JSON, and one synchronous signature. */
export function localJwtSigner(options: {
  readonly keyId: string
  readonly algorithm: JwtAlgorithm
  readonly expiresAt: number
  readonly privateKey: KeyObject
}): JwtSigner {
  const { keyId, algorithm, expiresAt } = options
  const header = base64url(JSON.stringify({ alg: algorithm, kid: keyId, typ: 'JWT' }))
  const key = { key: options.privateKey, dsaEncoding: SIGNATURE_FORM } as const
  return {
    keyId,
    algorithm,
    expiresAt,
    sign(template) {
      const input = `${header}.${base64url(claimsOf(template))}`
      return `${input}.${sign(DIGEST, Buffer.from(input, 'latin1'), key).toString('base64url')}`
    },
  }
}

function claimsOf(template: TokenTemplate): string {
  const { issuer, subject, audience, issuedAt, expiresAt, tokenId } = template
  return JSON.stringify({
    ...(issuer !== undefined && { iss: issuer }),
    sub: subject,
    aud: audience,
    exp: expiresAt,
    iat: issuedAt,
    jti: tokenId,
  })
}

function base64url(text: string): string {
  return Buffer.from(text).toString('base64url')
}

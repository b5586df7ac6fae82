import { constants, type KeyObject, type SignKeyObjectInput, verify } from 'node:crypto'

interface JwtAlgorithm {
  readonly hash: string
  /** The OpenSSL name of the curve, for ECDSA. */
  readonly curve?: string
  /** Of an ECDSA signature: r and s one after the other (RFC 7518 §3.4). */
  readonly signatureLength?: number
  readonly pss?: true
}

/** The nine that JWT-SVID §2.1 allows. */
const algorithms: Readonly<Record<string, JwtAlgorithm>> = {
  RS256: { hash: 'sha256' },
  RS384: { hash: 'sha384' },
  RS512: { hash: 'sha512' },
  ES256: { hash: 'sha256', curve: 'prime256v1', signatureLength: 64 },
  ES384: { hash: 'sha384', curve: 'secp384r1', signatureLength: 96 },
  ES512: { hash: 'sha512', curve: 'secp521r1', signatureLength: 132 },
  PS256: { hash: 'sha256', pss: true },
  PS384: { hash: 'sha384', pss: true },
  PS512: { hash: 'sha512', pss: true },
}

export function isJwtAlgorithm(name: unknown): name is string {
  return typeof name === 'string' && Object.hasOwn(algorithms, name)
}

/** Whether a key may be used with an algorithm at all: the right kind, and for ECDSA the right curve. */
export function keyFits(key: KeyObject, name: string): boolean {
  const algorithm = algorithms[name]
  if (algorithm === undefined) return false
  if (algorithm.curve === undefined) return key.asymmetricKeyType === 'rsa'
  return key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === algorithm.curve
}

export function verifyJwtSignature(options: {
  readonly algorithm: string
  readonly key: KeyObject
  readonly data: Uint8Array
  readonly signature: Uint8Array
}): boolean {
  const { algorithm: name, key, data, signature } = options
  const algorithm = algorithms[name]
  if (algorithm === undefined || !keyFits(key, name)) return false
  // Otherwise a signature in DER, which JOSE forbids, might be of the length of a joined one.
  if ((algorithm.signatureLength ?? signature.length) !== signature.length) return false
  return verify(algorithm.hash, data, paddedKey(key, algorithm), signature)
}

function paddedKey(key: KeyObject, { curve, pss }: JwtAlgorithm): SignKeyObjectInput {
  if (curve !== undefined) return { key, dsaEncoding: 'ieee-p1363' }
  if (!pss) return { key, padding: constants.RSA_PKCS1_PADDING }
  return {
    key,
    padding: constants.RSA_PKCS1_PSS_PADDING,
    saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
  }
}

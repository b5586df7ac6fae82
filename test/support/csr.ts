import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { bitString, contextTag, nullValue, oid, sequence, tlv } from '../../spiffe/asn1/index.js'

export interface TestKeys {
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
}

export interface CsrRecipe {
  readonly keys: TestKeys
  /** Instead of the one that belongs to `keys`. */
  readonly publicKeyInfo?: Uint8Array
  readonly subject?: Uint8Array
  /** Content of the attributes; `null` leaves them out. */
  readonly attributes?: Uint8Array | null
  readonly version?: Uint8Array
  readonly algorithm?: keyof typeof csrAlgorithms
  /** Behind the attributes, where nothing belongs. */
  readonly more?: Uint8Array
}

/** By name: the identifier in the request and the digest to sign with. */
export const csrAlgorithms = {
  'ECDSA-SHA256': { id: sequence(oid('1.2.840.10045.4.3.2')), digest: 'sha256' },
  'ECDSA-SHA384': { id: sequence(oid('1.2.840.10045.4.3.3')), digest: 'sha384' },
  'ECDSA-SHA512': { id: sequence(oid('1.2.840.10045.4.3.4')), digest: 'sha512' },
  'ECDSA-SHA1': { id: sequence(oid('1.2.840.10045.4.1')), digest: 'sha1' },
  'RSA-SHA256': { id: sequence(oid('1.2.840.113549.1.1.11'), nullValue()), digest: 'sha256' },
  'RSA-SHA384': { id: sequence(oid('1.2.840.113549.1.1.12'), nullValue()), digest: 'sha384' },
  'RSA-SHA512': { id: sequence(oid('1.2.840.113549.1.1.13'), nullValue()), digest: 'sha512' },
  'RSA-SHA1': { id: sequence(oid('1.2.840.113549.1.1.5'), nullValue()), digest: 'sha1' },
  Ed25519: { id: sequence(oid('1.3.101.112')), digest: null },
} as const

const EMPTY_NAME = sequence()
const VERSION_1 = Uint8Array.of(2, 1, 0)

/** A PKCS#10 request, right or wrong: nothing is checked, since the defect is the point. */
export function makeCsr(recipe: CsrRecipe): Uint8Array {
  const { keys, attributes = new Uint8Array(), more = new Uint8Array() } = recipe
  const info = sequence(
    recipe.version ?? VERSION_1,
    recipe.subject ?? EMPTY_NAME,
    recipe.publicKeyInfo ?? publicKeyInfoOf(keys),
    attributes === null ? new Uint8Array() : tlv(contextTag(0), attributes),
    more,
  )
  const { id, digest } = csrAlgorithms[recipe.algorithm ?? 'ECDSA-SHA256']
  return sequence(info, id, bitString(sign(digest, info, keys.privateKey)))
}

export function publicKeyInfoOf({ publicKey }: TestKeys): Uint8Array {
  return new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }))
}

export function ecKeys(namedCurve = 'P-256'): TestKeys {
  return generateKeyPairSync('ec', { namedCurve })
}

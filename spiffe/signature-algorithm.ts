import { constants, type KeyObject, verify } from 'node:crypto'
import {
  bytesOf,
  contextTag,
  type DerElement,
  integer,
  nullValue,
  oid,
  readOid,
  sequence,
  sequenceItems,
  tlv,
} from './asn1/index.js'

interface SignatureAlgorithm {
  readonly keyType: 'ec' | 'rsa' | 'ed25519'
  readonly hash: string | null
  readonly pss?: true
}

/** What a certificate may be signed with. SHA-1 and MD5 are missing on purpose and stay so. */
const allowed: Readonly<Record<string, SignatureAlgorithm>> = {
  'ECDSA-SHA256': { keyType: 'ec', hash: 'sha256' },
  'ECDSA-SHA384': { keyType: 'ec', hash: 'sha384' },
  'ECDSA-SHA512': { keyType: 'ec', hash: 'sha512' },
  'RSA-SHA256': { keyType: 'rsa', hash: 'sha256' },
  'RSA-SHA384': { keyType: 'rsa', hash: 'sha384' },
  'RSA-SHA512': { keyType: 'rsa', hash: 'sha512' },
  'RSAPSS-SHA256': { keyType: 'rsa', hash: 'sha256', pss: true },
  'RSAPSS-SHA384': { keyType: 'rsa', hash: 'sha384', pss: true },
  'RSAPSS-SHA512': { keyType: 'rsa', hash: 'sha512', pss: true },
  Ed25519: { keyType: 'ed25519', hash: null },
}

const RSA_PARAMETERS = nullValue()
const NO_PARAMETERS = new Uint8Array()

/** Names by the whole AlgorithmIdentifier, so that parameters are compared too and never guessed at. */
const names = new Map(
  [
    ['1.2.840.10045.4.3.2', NO_PARAMETERS, 'ECDSA-SHA256'],
    ['1.2.840.10045.4.3.3', NO_PARAMETERS, 'ECDSA-SHA384'],
    ['1.2.840.10045.4.3.4', NO_PARAMETERS, 'ECDSA-SHA512'],
    ['1.2.840.10045.4.1', NO_PARAMETERS, 'ECDSA-SHA1'],
    ['1.2.840.113549.1.1.11', RSA_PARAMETERS, 'RSA-SHA256'],
    ['1.2.840.113549.1.1.12', RSA_PARAMETERS, 'RSA-SHA384'],
    ['1.2.840.113549.1.1.13', RSA_PARAMETERS, 'RSA-SHA512'],
    ['1.2.840.113549.1.1.5', RSA_PARAMETERS, 'RSA-SHA1'],
    ['1.2.840.113549.1.1.4', RSA_PARAMETERS, 'RSA-MD5'],
    ['1.2.840.113549.1.1.10', pssParameters('2.16.840.1.101.3.4.2.1', 32), 'RSAPSS-SHA256'],
    ['1.2.840.113549.1.1.10', pssParameters('2.16.840.1.101.3.4.2.2', 48), 'RSAPSS-SHA384'],
    ['1.2.840.113549.1.1.10', pssParameters('2.16.840.1.101.3.4.2.3', 64), 'RSAPSS-SHA512'],
    ['1.3.101.112', NO_PARAMETERS, 'Ed25519'],
  ].map(([id, parameters, name]) => [
    latin1(sequence(oid(id as string), parameters as Uint8Array)),
    name as string,
  ]),
)

/** The name of an AlgorithmIdentifier, or its dotted identifier if this library has no name for it. */
export function nameOfSignatureAlgorithm(element: DerElement): string {
  return names.get(latin1(bytesOf(element))) ?? readOid(sequenceItems(element)[0])
}

/** Why a signature of this kind may not count, or `undefined` if it may. */
export function signatureWeakness(algorithm: string): string | undefined {
  if (Object.hasOwn(allowed, algorithm)) return undefined
  return `signature algorithm ${algorithm} is not allowed`
}

/** Whether `signature` over `data` was made by `key`, with an algorithm that is allowed and fits the key. */
export function verifySignature(options: {
  readonly algorithm: string
  readonly key: KeyObject
  readonly data: Uint8Array
  readonly signature: Uint8Array
}): boolean {
  const algorithm = Object.hasOwn(allowed, options.algorithm)
    ? allowed[options.algorithm]
    : undefined
  if (algorithm === undefined || options.key.asymmetricKeyType !== algorithm.keyType) return false
  const key = algorithm.pss
    ? {
        key: options.key,
        padding: constants.RSA_PKCS1_PSS_PADDING,
        saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
      }
    : options.key
  return verify(algorithm.hash, options.data, key, options.signature)
}

/** RSASSA-PSS-params with one hash for both uses and a salt of its length (RFC 8017 appendix A.2.3). */
function pssParameters(hash: string, saltLength: number): Uint8Array {
  const hashAlgorithm = sequence(oid(hash), nullValue())
  const mask = sequence(oid('1.2.840.113549.1.1.8'), hashAlgorithm)
  return sequence(
    tlv(contextTag(0), hashAlgorithm),
    tlv(contextTag(1), mask),
    tlv(contextTag(2), integer(saltLength)),
  )
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
}

import { generateKeyPair, type KeyObject, sign } from 'node:crypto'
import { promisify } from 'node:util'
import {
  bitString,
  contextTag,
  integer,
  octetString,
  oid,
  sequence,
  tlv,
} from '../../spiffe/asn1/index.js'

/** A new P-256 key that has signed for itself: what a sentry needs to issue for it, and what we keep. */
export interface RequestedKey {
  /** DER PKCS#10. */
  readonly csr: Uint8Array
  readonly privateKey: KeyObject
  /** DER PKCS#8. */
  readonly privateKeyDer: Uint8Array
  /** DER SubjectPublicKeyInfo. */
  readonly publicKeyInfo: Uint8Array
}

const makeKeyPair = promisify(generateKeyPair)

const EC_P256 = sequence(oid('1.2.840.10045.2.1'), oid('1.2.840.10045.3.1.7'))
const ECDSA_WITH_SHA256 = sequence(oid('1.2.840.10045.4.3.2'))
/** The sentry takes the key and nothing else, so the subject is empty and there are no attributes. */
const VERSION_AND_SUBJECT = Buffer.concat([integer(0), sequence()])
const NO_ATTRIBUTES = tlv(contextTag(0))
const UNCOMPRESSED = Uint8Array.of(4)

/**
 * Makes a key on the thread pool, then the request. The key's encodings are written here: OpenSSL 3.0
 * takes ten times as long to write them, and as long again to read one back.
 */
export async function requestKey(): Promise<RequestedKey> {
  const { privateKey } = await makeKeyPair('ec', { namedCurve: 'P-256' })
  const { d = '', x = '', y = '' } = privateKey.export({ format: 'jwk' })
  const point = Buffer.concat([UNCOMPRESSED, octets(x), octets(y)])
  const publicKeyInfo = sequence(EC_P256, bitString(point))
  return {
    csr: makeCsr(privateKey, publicKeyInfo),
    privateKey,
    privateKeyDer: writePrivateKey(octets(d), point),
    publicKeyInfo,
  }
}

/** A PKCS#10 request (RFC 2986) for the public half of `privateKey`. */
function makeCsr(privateKey: KeyObject, publicKeyInfo: Uint8Array): Uint8Array {
  const info = sequence(VERSION_AND_SUBJECT, publicKeyInfo, NO_ATTRIBUTES)
  return sequence(info, ECDSA_WITH_SHA256, bitString(sign('sha256', info, privateKey)))
}

/** PKCS#8 (RFC 5208) around an ECPrivateKey (RFC 5915) with its public point. */
function writePrivateKey(scalar: Uint8Array, point: Uint8Array): Uint8Array {
  const publicPoint = tlv(contextTag(1), bitString(point))
  const key = sequence(integer(1), octetString(scalar), publicPoint)
  return sequence(integer(0), EC_P256, octetString(key))
}

/** A JWK writes every coordinate in full length. */
function octets(base64url: string): Uint8Array {
  return Buffer.from(base64url, 'base64url')
}

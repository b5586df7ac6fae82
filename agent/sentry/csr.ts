import { createPrivateKey, generateKeyPair, type KeyObject, sign } from 'node:crypto'
import { promisify } from 'node:util'
import { bitString, contextTag, integer, oid, sequence, tlv } from '../../spiffe/asn1/index.js'

/** A new P-256 key that has signed for itself: what a sentry needs to issue for it, and what we keep. */
export interface RequestedKey {
  /** DER PKCS#10. */
  readonly csr: Uint8Array
  /** DER PKCS#8. */
  readonly privateKeyDer: Uint8Array
}

const makeKeyPair = promisify(generateKeyPair)

const ECDSA_WITH_SHA256 = sequence(oid('1.2.840.10045.4.3.2'))
/** The sentry takes the key and nothing else, so the subject is empty and there are no attributes. */
const VERSION_AND_SUBJECT = Buffer.concat([integer(0), sequence()])
const NO_ATTRIBUTES = tlv(contextTag(0))

/** Makes a key on the thread pool, then the request. */
export async function requestKey(): Promise<RequestedKey> {
  const { publicKey, privateKey } = await makeKeyPair('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'der' },
    privateKeyEncoding: { type: 'pkcs8', format: 'der' },
  })
  const key = createPrivateKey({ key: privateKey, format: 'der', type: 'pkcs8' })
  return { csr: makeCsr(key, publicKey), privateKeyDer: privateKey }
}

/** A PKCS#10 request (RFC 2986) for the public half of `privateKey`, given as SubjectPublicKeyInfo. */
export function makeCsr(privateKey: KeyObject, publicKeyInfo: Uint8Array): Uint8Array {
  const info = sequence(VERSION_AND_SUBJECT, publicKeyInfo, NO_ATTRIBUTES)
  return sequence(info, ECDSA_WITH_SHA256, bitString(sign('sha256', info, privateKey)))
}

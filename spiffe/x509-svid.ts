import { createPrivateKey, type KeyObject, sign, verify } from 'node:crypto'
import { SpiffeError } from './errors.js'
import type { SpiffeId } from './id.js'
import type { Certificate } from './x509-certificate.js'
import { parseCertificate } from './x509-parse.js'
import { assertLeafProfile, signingDefect } from './x509-profile.js'

/** An identity that can be proven: a leaf, the intermediates that vouch for it, and its private key. */
export interface X509Svid {
  readonly id: SpiffeId
  /** Leaf first, then intermediates, the root left out. */
  readonly chain: readonly [Certificate, ...Certificate[]]
  readonly privateKey: KeyObject
  /** The operator's label for this identity among several (Workload API §8). */
  readonly hint?: string
}

/** Where a TLS endpoint gets the SVID that it presents. A fixed value and a live watch both are one. */
export interface X509SvidSource {
  /** Throws `CS_NO_IDENTITY` while there is none. */
  x509Svid(): X509Svid
}

export interface X509SvidParts {
  /** DER certificates, leaf first. */
  readonly chain: readonly Uint8Array[]
  /** PKCS#8, not encrypted. */
  readonly privateKeyDer: Uint8Array
  readonly hint?: string
}

const invalid = (message: string, options?: ErrorOptions) =>
  new SpiffeError('CS_X509_SVID_INVALID', message, options)

/**
 * Puts an SVID together from what an issuer sends and holds it to the profile. Whether anybody trusts the
 * issuer is not asked here. Throws `CS_X509_SVID_INVALID` or `CS_CERTIFICATE_MALFORMED`.
 */
export function parseX509Svid({ chain, privateKeyDer, hint }: X509SvidParts): X509Svid {
  const [leaf, ...intermediates] = chain.map(parseCertificate)
  if (leaf === undefined) throw invalid('chain holds no certificate')
  const id = assertLeafProfile(leaf)
  intermediates.forEach(assertSigningCertificate)
  const privateKey = readPrivateKey(privateKeyDer)
  if (!belongTogether(privateKey, leaf.publicKey)) {
    throw invalid('private key does not belong to the leaf')
  }
  return { id, chain: [leaf, ...intermediates], privateKey, ...(hint ? { hint } : {}) }
}

/** Any text would do: what is signed here leaves this function never. */
const PROOF = Buffer.from('countersign: this key belongs to this certificate')

/** Shown by signing: PKCS#8 may state a public key of its own, which says nothing about the private part. */
function belongTogether(privateKey: KeyObject, publicKey: KeyObject): boolean {
  const hash = privateKey.asymmetricKeyType === 'ed25519' ? null : 'sha256'
  try {
    return verify(hash, PROOF, publicKey, sign(hash, PROOF, privateKey))
  } catch {
    return false
  }
}

function assertSigningCertificate(certificate: Certificate): void {
  const defect = signingDefect(certificate)
  if (defect !== undefined) throw invalid(`a certificate after the leaf ${defect}`)
}

/** The message of OpenSSL is dropped: what it says about a private key is nobody's business. */
function readPrivateKey(der: Uint8Array): KeyObject {
  try {
    return createPrivateKey({ key: Buffer.from(der), format: 'der', type: 'pkcs8' })
  } catch {
    throw invalid('private key is not unencrypted PKCS#8')
  }
}

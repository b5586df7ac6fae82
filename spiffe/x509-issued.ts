import { keyWeakness, shapeOfKey } from './public-key.js'
import { signatureWeakness, verifySignature } from './signature-algorithm.js'
import type { Certificate } from './x509-certificate.js'

/** How many signatures may still be checked for one peer. */
export interface SignatureBudget {
  checksLeft: number
}

/** Why `subject` does not count as signed by the key of `issuer`, or `undefined` if it does. */
export function signatureDefect(
  budget: SignatureBudget,
  { subject, issuer }: { readonly subject: Certificate; readonly issuer: Certificate },
): string | undefined {
  const weakness = signatureWeakness(subject.signatureAlgorithm) ?? weaknessOf(issuer)
  if (weakness !== undefined) return weakness
  if (knownSigned.get(subject)?.has(issuer)) return undefined
  if (budget.checksLeft === 0) return 'chain needs more signature checks than are made for one peer'
  budget.checksLeft -= 1
  if (!hasSigned(issuer, subject))
    return 'signature was not made by the key of the certificate above it'
  remember(subject, issuer)
  return undefined
}

/** Why no signature by the key of this certificate may count, or `undefined` if one may. */
export function weaknessOf({ publicKeyInfo }: Certificate): string | undefined {
  try {
    return keyWeakness(shapeOfKey(publicKeyInfo))
  } catch {
    return 'key cannot be read'
  }
}

/** A key that OpenSSL does not take, such as a point off its curve, has signed nothing. */
function hasSigned(issuer: Certificate, subject: Certificate): boolean {
  const { signatureAlgorithm: algorithm, tbs: data, signature } = subject
  try {
    return verifySignature({ algorithm, key: issuer.publicKey, data, signature })
  } catch {
    return false
  }
}

/** Who is known to have signed what. Certificates never change, so neither does the answer. */
const knownSigned = new WeakMap<Certificate, WeakSet<Certificate>>()

function remember(subject: Certificate, issuer: Certificate): void {
  const issuers = knownSigned.get(subject) ?? new WeakSet()
  knownSigned.set(subject, issuers.add(issuer))
}

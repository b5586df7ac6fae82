import type { SpiffeErrorCode } from './errors.js'
import { sameBytes } from './same-bytes.js'
import { outsideValidity } from './validity.js'
import type { Certificate } from './x509-certificate.js'
import { weaknessOf } from './x509-issued.js'
import { outsideNameConstraints } from './x509-name-constraints.js'
import { extendedKeyUsages, hasEmptySubject, signingDefect } from './x509-profile.js'

/** What the peer does on the connection. Its certificate has to be meant for that. */
export type PeerUsage = 'client' | 'server'

/** Leaf first, the authority that vouches for it last. */
export type CertificatePath = readonly [Certificate, ...Certificate[]]

/** What every certificate on a path is held to. */
export interface PathTerms {
  /** Milliseconds since 1970. */
  readonly now: number
  /** Without it, a purpose of either side will do. */
  readonly usage?: PeerUsage | undefined
}

/** Why a certificate cannot stand where it stands. */
export interface Problem {
  readonly code: SpiffeErrorCode
  readonly message: string
}

/** Certificates on a path, leaf and root included. SPIFFE needs three, a nested deployment some more. */
const MAX_PATH_LENGTH = 8

export function leafProblem(leaf: Certificate, terms: PathTerms): Problem | undefined {
  const weakness = weaknessOf(leaf)
  if (weakness !== undefined) return invalid(`leaf: ${weakness}`)
  return certificateProblem({ certificate: leaf, role: roleOf(0), terms })
}

/** Why `issuer` cannot stand above the path, its signature aside (RFC 5280 §6.1.4). */
export function issuerProblem(options: {
  readonly issuer: Certificate
  readonly path: CertificatePath
  readonly terms: PathTerms
}): Problem | undefined {
  const { issuer, path, terms } = options
  const role = roleOf(path.length)
  if (path.length >= MAX_PATH_LENGTH) {
    return invalid(`path is longer than ${MAX_PATH_LENGTH} certificates`)
  }
  const defect = signingDefect(issuer)
  if (defect !== undefined) return invalid(`${role} ${defect}`)
  if (hasEmptySubject(issuer)) return invalid(`${role} is a CA without a name`)
  if (exceedsPathLength(path, issuer)) return invalid(`${role} has a path length that is exceeded`)
  return certificateProblem({ certificate: issuer, role, terms }) ?? constraintProblem(path, issuer)
}

export function invalid(message: string): Problem {
  return { code: 'CS_PEER_CHAIN_INVALID', message }
}

/** What to call the certificate at a place on the path. */
export function roleOf(index: number): string {
  return index === 0 ? 'leaf' : `certificate ${index} above the leaf`
}

/** What holds for every certificate on a path. */
function certificateProblem(options: {
  readonly certificate: Certificate
  readonly role: string
  readonly terms: PathTerms
}): Problem | undefined {
  const { certificate, role, terms } = options
  const [unknown] = certificate.unknownCritical
  if (unknown !== undefined) {
    return invalid(`${role} has the critical extension ${unknown}, which is not understood`)
  }
  if (!allowsUsage(certificate, terms.usage)) {
    const wanted = terms.usage ?? 'client or server'
    return invalid(`${role} has an extended key usage without ${wanted} authentication`)
  }
  const { notBefore, notAfter } = certificate
  const outside = outsideValidity({ notBefore, notAfter, now: terms.now })
  if (outside === undefined) return undefined
  return { code: 'CS_SVID_EXPIRED', message: `${role} ${outside}` }
}

function allowsUsage({ extendedKeyUsage }: Certificate, usage: PeerUsage | undefined): boolean {
  if (extendedKeyUsage === undefined) return true
  const { any, clientAuth, serverAuth } = extendedKeyUsages
  const wanted = { client: [clientAuth], server: [serverAuth], either: [clientAuth, serverAuth] }
  return [any, ...wanted[usage ?? 'either']].some((purpose) => extendedKeyUsage.includes(purpose))
}

/** Self-issued intermediates do not count (RFC 5280 §6.1.4 (l)), and neither does the leaf. */
function exceedsPathLength(path: CertificatePath, issuer: Certificate): boolean {
  const limit = issuer.basicConstraints?.pathLength
  const [, ...intermediates] = path
  const counted = intermediates.filter(({ subject, issuer }) => !sameBytes(subject, issuer))
  return limit !== undefined && counted.length > limit
}

/** Applied to self-issued certificates too: every SPIFFE ID further down lies inside (X509-SVID §4.2). */
function constraintProblem(path: CertificatePath, issuer: Certificate): Problem | undefined {
  const { nameConstraints } = issuer
  if (nameConstraints === undefined) return undefined
  for (const certificate of path) {
    const outside = outsideNameConstraints(certificate, nameConstraints)
    if (outside !== undefined) return invalid(outside)
  }
  return undefined
}

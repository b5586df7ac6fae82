import { SpiffeError, type SpiffeErrorCode } from './errors.js'
import { keyWeakness, shapeOfKey } from './public-key.js'
import { signatureWeakness, verifySignature } from './signature-algorithm.js'
import { outsideValidity } from './validity.js'
import type { Certificate } from './x509-certificate.js'
import { outsideNameConstraints } from './x509-name-constraints.js'
import { extendedKeyUsages, hasEmptySubject, signingDefect } from './x509-profile.js'

/** What the peer does on the connection. Its certificate has to be meant for that. */
export type PeerUsage = 'client' | 'server'

export interface PathRequest {
  readonly leaf: Certificate
  /** Presented by the peer: hints and no more, in any order. */
  readonly intermediates: readonly Certificate[]
  /** The authorities of the leaf's own trust domain, and of no other. */
  readonly anchors: readonly Certificate[]
  /** Milliseconds since 1970. */
  readonly now: number
  /** Without it, a purpose of either side will do. */
  readonly usage?: PeerUsage | undefined
}

/** Leaf first, the authority that vouches for it last. */
export type CertificatePath = readonly [Certificate, ...Certificate[]]

/** Certificates on a path, leaf and root included. SPIFFE needs three, a nested deployment some more. */
const MAX_PATH_LENGTH = 8
/** Signature checks for one peer, whatever it presents. */
const MAX_SIGNATURE_CHECKS = 24

interface Failure {
  /** How far the search had come: the reason of the most promising path is the one to tell. */
  readonly depth: number
  readonly code: SpiffeErrorCode
  readonly message: string
}

interface Search extends PathRequest {
  checksLeft: number
  failure: Failure | undefined
}

/**
 * Finds a path from the leaf to an anchor that RFC 5280 §6 accepts. When several certificates fit as an
 * issuer, as with cross-signed roots, each is tried, within bounds.
 * Throws `CS_PEER_CHAIN_INVALID` or `CS_SVID_EXPIRED`, with the reason of the path that came furthest.
 */
export function findCertificatePath(request: PathRequest): CertificatePath {
  const search: Search = { ...request, checksLeft: MAX_SIGNATURE_CHECKS, failure: undefined }
  const { leaf } = request
  const problem = leafProblem(search)
  if (problem) throw new SpiffeError(problem.code, problem.message)

  const path = extendPath(search, [leaf])
  if (path) return path
  const { code, message } = search.failure ?? noIssuer(search, [leaf])
  throw new SpiffeError(code, message)
}

function extendPath(search: Search, path: CertificatePath): CertificatePath | undefined {
  for (const { certificate, isAnchor } of issuersOf(search, path)) {
    const problem = issuerProblem(search, path, certificate)
    if (problem) {
      note(search, { ...problem, depth: path.length })
      continue
    }
    const longer: CertificatePath = [...path, certificate]
    const complete = isAnchor ? longer : extendPath(search, longer)
    if (complete) return complete
    note(search, { ...noIssuer(search, longer), depth: path.length })
  }
  return undefined
}

interface Candidate {
  readonly certificate: Certificate
  readonly isAnchor: boolean
}

/** Who may have signed the last certificate of the path, by name, the likeliest first. */
function issuersOf(search: Search, path: CertificatePath): Candidate[] {
  const subject = path.at(-1) ?? search.leaf
  const fits = (candidate: Certificate) =>
    sameBytes(candidate.subject, subject.issuer) &&
    !path.some((held) => sameEntity(held, candidate))
  const anchors = search.anchors.filter(fits)
  const presented = search.intermediates.filter(
    (candidate) =>
      fits(candidate) && !anchors.some((anchor) => sameBytes(anchor.der, candidate.der)),
  )
  return [
    ...anchors.map((certificate) => ({ certificate, isAnchor: true })),
    ...presented.map((certificate) => ({ certificate, isAnchor: false })),
  ].sort((a, b) => keyIdRank(subject, a.certificate) - keyIdRank(subject, b.certificate))
}

/** Key identifiers are hints: a match comes first, a mismatch last, and the signature decides. */
function keyIdRank(subject: Certificate, issuer: Certificate): number {
  if (subject.authorityKeyId === undefined || issuer.subjectKeyId === undefined) return 1
  return subject.authorityKeyId === issuer.subjectKeyId ? 0 : 2
}

type Problem = Omit<Failure, 'depth'>

function leafProblem(search: Search): Problem | undefined {
  const { leaf } = search
  const weakness = weaknessOf(leaf)
  if (weakness !== undefined) return invalid(`leaf: ${weakness}`)
  return certificateProblem(search, leaf, roleOf(0))
}

/** Why `issuer` cannot stand above the path, the cheap reasons first and the signature last. */
function issuerProblem(
  search: Search,
  path: CertificatePath,
  issuer: Certificate,
): Problem | undefined {
  const role = roleOf(path.length)
  if (path.length >= MAX_PATH_LENGTH)
    return invalid(`path is longer than ${MAX_PATH_LENGTH} certificates`)
  const defect = signingDefect(issuer)
  if (defect !== undefined) return invalid(`${role} ${defect}`)
  if (hasEmptySubject(issuer)) return invalid(`${role} is a CA without a name`)
  if (exceedsPathLength(path, issuer)) return invalid(`${role} has a path length that is exceeded`)
  return (
    certificateProblem(search, issuer, role) ??
    constraintProblem(path, issuer) ??
    signatureProblem(search, path.at(-1) ?? search.leaf, issuer)
  )
}

/** What holds for every certificate on a path. */
function certificateProblem(
  search: Search,
  certificate: Certificate,
  role: string,
): Problem | undefined {
  const [unknown] = certificate.unknownCritical
  if (unknown !== undefined)
    return invalid(`${role} has the critical extension ${unknown}, which is not understood`)
  if (!allowsUsage(certificate, search.usage)) {
    return invalid(
      `${role} has an extended key usage without ${search.usage ?? 'client or server'} authentication`,
    )
  }
  const { notBefore, notAfter } = certificate
  const outside = outsideValidity({ notBefore, notAfter, now: search.now })
  return outside === undefined
    ? undefined
    : { code: 'CS_SVID_EXPIRED', message: `${role} ${outside}` }
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

function signatureProblem(
  search: Search,
  subject: Certificate,
  issuer: Certificate,
): Problem | undefined {
  const weakness = signatureWeakness(subject.signatureAlgorithm) ?? weaknessOf(issuer)
  if (weakness !== undefined) return invalid(weakness)
  if (knownSigned.get(subject)?.has(issuer)) return undefined
  if (search.checksLeft === 0) {
    return invalid('chain needs more signature checks than are made for one peer')
  }
  search.checksLeft -= 1
  if (!hasSigned(issuer, subject)) {
    return invalid('signature was not made by the key of the certificate above it')
  }
  remember(subject, issuer)
  return undefined
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

function weaknessOf({ publicKeyInfo }: Certificate): string | undefined {
  try {
    return keyWeakness(shapeOfKey(publicKeyInfo))
  } catch {
    return 'key cannot be read'
  }
}

/** Who is known to have signed what. Certificates never change, so neither does the answer. */
const knownSigned = new WeakMap<Certificate, WeakSet<Certificate>>()

function remember(subject: Certificate, issuer: Certificate): void {
  const issuers = knownSigned.get(subject) ?? new WeakSet()
  knownSigned.set(subject, issuers.add(issuer))
}

function noIssuer({ anchors }: PathRequest, path: CertificatePath): Problem {
  if (anchors.length === 0) return invalid('the bundle of the trust domain holds no authority')
  const role = roleOf(path.length - 1)
  return invalid(`neither the chain nor the bundle of the trust domain holds the issuer of ${role}`)
}

function roleOf(index: number): string {
  return index === 0 ? 'leaf' : `certificate ${index} above the leaf`
}

function note(search: Search, failure: Failure): void {
  if (search.failure === undefined || failure.depth > search.failure.depth) search.failure = failure
}

function invalid(message: string): Problem {
  return { code: 'CS_PEER_CHAIN_INVALID', message }
}

/** The same name and key are the same CA, whoever signed the certificate; a path that returns to it is a circle. */
function sameEntity(a: Certificate, b: Certificate): boolean {
  return sameBytes(a.subject, b.subject) && sameBytes(a.publicKeyInfo, b.publicKeyInfo)
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0
}

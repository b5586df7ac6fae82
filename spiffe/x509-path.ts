import { SpiffeError } from './errors.js'
import { sameBytes } from './same-bytes.js'
import type { Certificate } from './x509-certificate.js'
import { type SignatureBudget, signatureDefect } from './x509-issued.js'
import {
  type CertificatePath,
  invalid,
  issuerProblem,
  leafProblem,
  type PathTerms,
  type Problem,
  roleOf,
} from './x509-path-checks.js'

export interface PathRequest extends PathTerms {
  readonly leaf: Certificate
  /** Presented by the peer: hints and no more, in any order. */
  readonly intermediates: readonly Certificate[]
  /** The authorities of the leaf's own trust domain, and of no other. */
  readonly anchors: readonly Certificate[]
}

/** Signature checks for one peer, whatever it presents. */
const MAX_SIGNATURE_CHECKS = 24

interface Failure extends Problem {
  /** How far the search had come: the reason of the most promising path is the one to tell. */
  readonly depth: number
}

interface Search extends PathRequest, SignatureBudget {
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
  const problem = leafProblem(leaf, search)
  if (problem) throw new SpiffeError(problem.code, problem.message)

  const path = extendPath(search, [leaf])
  if (path) return path
  const { code, message } = search.failure ?? noIssuer(search, [leaf])
  throw new SpiffeError(code, message)
}

function extendPath(search: Search, path: CertificatePath): CertificatePath | undefined {
  for (const { certificate, isAnchor } of issuersOf(search, path)) {
    const problem = problemOf(search, path, certificate)
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

/** The cheap reasons first, and the signature last. */
function problemOf(
  search: Search,
  path: CertificatePath,
  issuer: Certificate,
): Problem | undefined {
  const problem = issuerProblem({ issuer, path, terms: search })
  if (problem) return problem
  const defect = signatureDefect(search, { subject: path.at(-1) ?? search.leaf, issuer })
  return defect === undefined ? undefined : invalid(defect)
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

function noIssuer({ anchors }: PathRequest, path: CertificatePath): Problem {
  if (anchors.length === 0) return invalid('the bundle of the trust domain holds no authority')
  const role = roleOf(path.length - 1)
  return invalid(`neither the chain nor the bundle of the trust domain holds the issuer of ${role}`)
}

function note(search: Search, failure: Failure): void {
  if (search.failure === undefined || failure.depth > search.failure.depth) search.failure = failure
}

/** The same name and key are the same CA, whoever signed the certificate; a path that returns to it is a circle. */
function sameEntity(a: Certificate, b: Certificate): boolean {
  return sameBytes(a.subject, b.subject) && sameBytes(a.publicKeyInfo, b.publicKeyInfo)
}

import type { KeyObject } from 'node:crypto'
import {
  type Certificate,
  idOfTrustDomain,
  keyUsages,
  parseCertificate,
  type TrustDomain,
} from '../../spiffe/index.js'
import { keyIdentifier, readAllowedKey } from '../public-key.js'
import { subjectName } from '../subject-name.js'
import { buildCertificate, type SigningAuthority } from './certificate-builder.js'

export interface CaRequest {
  readonly trustDomain: TrustDomain
  readonly serialNumber: Uint8Array
  readonly notBefore: number
  readonly notAfter: number
  /** DER SubjectPublicKeyInfo of the new authority. */
  readonly publicKeyInfo: Uint8Array
}

/** An issuer signs only leaves. A root has no limit: one day its successor is signed with it. */
const ISSUER_PATH_LENGTH = 0

/** A self-signed root, which carries the ID of its trust domain (SPIFFE-ID §3.1). */
export async function buildRoot(request: CaRequest, privateKey: KeyObject): Promise<Certificate> {
  const subject = nameOf('root', request.serialNumber)
  const der = await buildCertificate({
    ...caFields(request),
    subject,
    issuer: subject,
    signingKey: privateKey,
  })
  return parseCertificate(der)
}

/** An issuer under the root: what leaves are signed with. */
export async function buildIssuer(
  request: CaRequest,
  root: SigningAuthority,
): Promise<Certificate> {
  const { subject, subjectKeyId } = root.certificate
  const der = await buildCertificate({
    ...caFields(request, ISSUER_PATH_LENGTH),
    subject: nameOf('issuer', request.serialNumber),
    issuer: subject,
    ...(subjectKeyId !== undefined && { authorityKeyId: subjectKeyId }),
    signingKey: root.privateKey,
  })
  return parseCertificate(der)
}

function caFields(request: CaRequest, pathLength?: number) {
  const { trustDomain, ...fields } = request
  const keyId = keyIdentifier(readAllowedKey(request.publicKeyInfo).keyBits)
  return {
    ...fields,
    subjectKeyId: Buffer.from(keyId).toString('hex'),
    id: idOfTrustDomain(trustDomain),
    keyUsage: keyUsages.keyCertSign | keyUsages.cRLSign,
    role: { kind: 'ca', pathLength } as const,
  }
}

/** Unique, so that no verifier takes the successor of an authority for the authority itself. */
function nameOf(role: 'root' | 'issuer', serialNumber: Uint8Array) {
  return subjectName({
    organization: 'Countersign',
    commonName: `${role} authority`,
    serialNumber: Buffer.from(serialNumber).toString('hex'),
  })
}

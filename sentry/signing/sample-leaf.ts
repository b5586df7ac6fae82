import type { SvidTemplate } from '../svid-template.js'
import { buildCertificate, type SigningAuthority } from './certificate-builder.js'
import { keyUsageOf, type LeafShape } from './leaf-shape.js'

/** A leaf by the general builder, with every extension that an X509-SVID of this issuer has. */
export function buildSampleLeaf(request: {
  readonly template: SvidTemplate
  readonly issuer: SigningAuthority
  readonly shape: LeafShape
}): Promise<Uint8Array> {
  const { template, issuer, shape } = request
  const { subject: issuerName, subjectKeyId: authorityKeyId } = issuer.certificate
  const { serialNumber, notBefore, notAfter, subject, id, key } = template
  return buildCertificate({
    serialNumber,
    notBefore,
    notAfter,
    subject,
    issuer: issuerName,
    publicKeyInfo: key.publicKeyInfo,
    subjectKeyId: Buffer.from(key.keyId).toString('hex'),
    ...(authorityKeyId !== undefined && { authorityKeyId }),
    id,
    keyUsage: keyUsageOf(shape),
    role: { kind: 'leaf' },
    signingKey: issuer.privateKey,
  })
}

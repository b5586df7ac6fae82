import { keyUsages } from '../../spiffe/index.js'
import type { KeyKind } from '../public-key.js'
import type { SvidTemplate } from '../svid-template.js'
import { buildCertificate, type SigningAuthority } from './certificate-builder.js'

/** What a leaf says beyond its template, and which only its kind of key decides. */
export type LeafShape = 'signing' | 'signing-and-encipherment'

const usages: Readonly<Record<LeafShape, number>> = {
  signing: keyUsages.digitalSignature,
  'signing-and-encipherment': keyUsages.digitalSignature | keyUsages.keyEncipherment,
}

/** Encipherment means something for RSA alone (X509-SVID §4.3). */
export function shapeFor(kind: KeyKind): LeafShape {
  return kind === 'rsa' ? 'signing-and-encipherment' : 'signing'
}

export function keyUsageOf(shape: LeafShape): number {
  return usages[shape]
}

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

import 'reflect-metadata'
import { type KeyObject, webcrypto } from 'node:crypto'
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  Extension,
  Name,
  PublicKey,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from '@peculiar/x509'
import { namedBits } from '../../spiffe/asn1/index.js'
import type { Certificate, SpiffeId } from '../../spiffe/index.js'

/** Who signs: a certificate and its P-256 key. */
export interface SigningAuthority {
  readonly certificate: Certificate
  readonly privateKey: KeyObject
}

export interface CertificateFields {
  /** Big-endian, positive. */
  readonly serialNumber: Uint8Array
  /** Milliseconds since 1970. */
  readonly notBefore: number
  readonly notAfter: number
  /** DER names. */
  readonly subject: Uint8Array
  readonly issuer: Uint8Array
  /** DER SubjectPublicKeyInfo, and its identifier as hex. */
  readonly publicKeyInfo: Uint8Array
  readonly subjectKeyId: string
  /** Left out of a root, which is its own authority. */
  readonly authorityKeyId?: string
  readonly id: SpiffeId
  /** Bits as in `keyUsages`. */
  readonly keyUsage: number
  readonly role:
    | { readonly kind: 'ca'; readonly pathLength: number | undefined }
    | { readonly kind: 'leaf' }
  readonly signingKey: KeyObject
}

const KEY_USAGE = '2.5.29.15'
const P256 = { name: 'ECDSA', namedCurve: 'P-256' } as const
const ECDSA_SHA256 = { name: 'ECDSA', hash: 'SHA-256' } as const

/**
 * A certificate by the general builder, which takes a hundred times as long as its signature: for
 * roots, issuers and the sample that a signer takes its template from, and for nothing that is hot.
 */
export async function buildCertificate(fields: CertificateFields): Promise<Uint8Array> {
  const pkcs8 = fields.signingKey.export({ type: 'pkcs8', format: 'der' })
  const signingKey = await webcrypto.subtle.importKey('pkcs8', pkcs8, P256, false, ['sign'])
  const certificate = await X509CertificateGenerator.create(
    {
      serialNumber: Buffer.from(fields.serialNumber).toString('hex'),
      notBefore: new Date(fields.notBefore),
      notAfter: new Date(fields.notAfter),
      subject: new Name(new Uint8Array(fields.subject)),
      issuer: new Name(new Uint8Array(fields.issuer)),
      publicKey: new PublicKey(new Uint8Array(fields.publicKeyInfo)),
      extensions: extensionsOf(fields),
      signingKey,
      signingAlgorithm: ECDSA_SHA256,
    },
    webcrypto,
  )
  return new Uint8Array(certificate.rawData)
}

/** The two that differ from leaf to leaf come last; `certificate-template.ts` relies on it. */
function extensionsOf(fields: CertificateFields): Extension[] {
  const { role, keyUsage, authorityKeyId, subjectKeyId, id } = fields
  const pathLength = role.kind === 'ca' ? role.pathLength : undefined
  return [
    new BasicConstraintsExtension(role.kind === 'ca', pathLength, true),
    new Extension(KEY_USAGE, true, namedBits(keyUsage)),
    ...(role.kind === 'leaf' ? [bothPurposes()] : []),
    ...(authorityKeyId === undefined ? [] : [new AuthorityKeyIdentifierExtension(authorityKeyId)]),
    new SubjectKeyIdentifierExtension(subjectKeyId),
    new SubjectAlternativeNameExtension([{ type: 'url', value: id }], role.kind === 'leaf'),
  ]
}

function bothPurposes(): Extension {
  return new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth])
}

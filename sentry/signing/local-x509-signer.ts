import { sign } from 'node:crypto'
import { parseWorkloadId, type TrustDomain } from '../../spiffe/index.js'
import { makeProvenKey } from '../csr.js'
import { SentryError } from '../errors.js'
import { emptySubject } from '../subject-name.js'
import type { SvidTemplate } from '../svid-template.js'
import type { SigningAuthority } from './certificate-builder.js'
import { type CertificateTemplate, cutTemplate } from './certificate-template.js'
import { type LeafShape, shapeFor } from './leaf-shape.js'
import { buildSampleLeaf } from './sample-leaf.js'
import type { X509Signer } from './signer.js'

const DIGEST = 'sha256'

/** A signer with its key in this process. Making it proves its templates; see {@link compileShape}. */
export async function localX509Signer(options: {
  readonly trustDomain: TrustDomain
  readonly issuer: SigningAuthority
}): Promise<X509Signer> {
  const { privateKey, certificate } = options.issuer
  const shapes: Readonly<Record<LeafShape, CertificateTemplate>> = {
    signing: await compileShape({ ...options, shape: 'signing' }),
    'signing-and-encipherment': await compileShape({
      ...options,
      shape: 'signing-and-encipherment',
    }),
  }
  return {
    issuer: certificate,
    sign(template) {
      const shape = shapes[shapeFor(template.key.kind)]
      const tbs = shape.splice(template)
      return [shape.complete(tbs, sign(DIGEST, tbs, privateKey)), certificate.der]
    },
  }
}

/**
 * Takes a template out of a leaf that the general builder made. The same facts spliced into it must
 * give the builder's bytes again, so a hole in the wrong place cannot go unseen.
 */
async function compileShape(options: {
  readonly trustDomain: TrustDomain
  readonly issuer: SigningAuthority
  readonly shape: LeafShape
}): Promise<CertificateTemplate> {
  const template = sampleTemplate(options)
  const sample = await buildSampleLeaf({ ...options, template })
  const compiled = cutTemplate(sample)
  const spliced = Buffer.from(compiled.splice(template))
  if (Buffer.from(sample).indexOf(spliced) === -1) {
    throw new SentryError('CS_ISSUE_CHECK_FAILED', 'spliced template differs from its sample')
  }
  return compiled
}

function sampleTemplate(options: {
  readonly trustDomain: TrustDomain
  readonly issuer: SigningAuthority
}): SvidTemplate {
  const { notBefore } = options.issuer.certificate
  return {
    id: parseWorkloadId(`spiffe://${options.trustDomain}/spire/countersign/sample`),
    key: makeProvenKey().key,
    serialNumber: Uint8Array.of(1),
    notBefore,
    // The sample is signed, so it must be of no use to whoever could read it out of memory.
    notAfter: notBefore + 1000,
    dnsNames: [],
    ipAddresses: [],
    subject: emptySubject,
  }
}

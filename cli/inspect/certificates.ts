import { X509Certificate } from 'node:crypto'
import {
  assertLeafProfile,
  bundleSet,
  type Certificate,
  parseSpiffeId,
  type TrustBundle,
  trustDomainOf,
  verifyX509Svid,
} from '../../spiffe/index.js'
import { isoTime } from '../api/views.js'
import { fields, relativeTime } from '../output.js'
import { printable } from '../printable.js'
import { type Finding, finding, findingOf, type Inspection, warning } from './inspection.js'
import { keyName } from './keys.js'
import type { Encoding } from './recognise.js'

export interface CertificatesOptions {
  readonly encoding: Encoding
  readonly now: Date
  /** Given with `--bundle`: the chain is then verified against it. */
  readonly bundle: TrustBundle | undefined
}

const ROOT_WARNING_MS = 60 * 86_400_000

/** Shows a chain with its leaf first, or a set of authorities. */
export function inspectCertificates(
  certificates: readonly Certificate[],
  options: CertificatesOptions,
): Inspection {
  const { encoding, now } = options
  const findings = [
    ...certificates.flatMap((certificate) => validityFindings(certificate, now)),
    ...chainFindings(certificates, options),
  ]
  const count = certificates.length === 1 ? 'certificate' : `${certificates.length} certificates`
  return {
    kind: 'x509',
    findings,
    json: { encoding, certificates: certificates.map(certificateJson) },
    text: [
      `X.509 ${count} (${encoding})`,
      ...certificates.map((certificate) => `\n${certificateText(certificate, now)}`),
    ].join('\n'),
  }
}

/** The life of a certificate in JSON and, for an authority of a bundle too, what names it. */
export function certificateJson(certificate: Certificate) {
  const { subject, issuer } = namesOf(certificate)
  return {
    role: roleOf(certificate),
    uris: certificate.uriNames,
    dns_names: certificate.dnsNames,
    subject,
    issuer,
    serial_number: certificate.serialNumber,
    not_before: isoTime(certificate.notBefore),
    not_after: isoTime(certificate.notAfter),
    key: keyName(certificate.publicKey),
    signature_algorithm: certificate.signatureAlgorithm,
    subject_key_id: certificate.subjectKeyId ?? null,
    authority_key_id: certificate.authorityKeyId ?? null,
    sha256: certificate.fingerprint,
  }
}

export function validityFindings(
  { notBefore, notAfter, uriNames: [name = 'certificate'], ...rest }: Certificate,
  now: Date,
): readonly Finding[] {
  const time = now.getTime()
  if (time < notBefore) {
    const when = relativeTime(notBefore, now)
    return [finding('CS_SVID_EXPIRED', `${name} becomes valid only ${when}`)]
  }
  const when = relativeTime(notAfter, now)
  if (time > notAfter) return [finding('CS_SVID_EXPIRED', `${name} expired ${when}`)]
  const isRoot = Buffer.compare(rest.issuer, rest.subject) === 0
  if (!isRoot || notAfter - time >= ROOT_WARNING_MS) return []
  return [warning('CS_CHECK_ROOT_EXPIRY', `authority of ${name} expires ${when}`)]
}

function chainFindings(
  certificates: readonly Certificate[],
  { bundle, now }: CertificatesOptions,
): readonly Finding[] {
  const [leaf] = certificates
  if (!leaf || leaf.basicConstraints?.ca) return []
  const profile = findingOf(() => assertLeafProfile(leaf))
  if (profile.length > 0) return profile
  if (!bundle) return orderFindings(certificates)
  const trustDomain = trustDomainOf(parseSpiffeId(leaf.uriNames[0] ?? ''))
  const chain = certificates.map(({ der }) => der)
  const bundles = bundleSet([{ ...bundle, trustDomain }])
  return findingOf(() => verifyX509Svid({ chain, bundles, now })).filter(
    // Expiry was said already, in words that count the time.
    ({ code }) => code !== 'CS_SVID_EXPIRED',
  )
}

/** Without a bundle one can still see whether each certificate names the next one as its issuer. */
function orderFindings(certificates: readonly Certificate[]): readonly Finding[] {
  return certificates.flatMap(({ issuer }, at) => {
    const next = certificates[at + 1]
    if (!next || Buffer.compare(issuer, next.subject) === 0) return []
    const message = `certificate ${at + 2} is not the issuer of certificate ${at + 1}`
    return [finding('CS_PEER_CHAIN_INVALID', message)]
  })
}

function certificateText(certificate: Certificate, now: Date): string {
  const { subject, issuer } = namesOf(certificate)
  const { uriNames, dnsNames, notBefore, notAfter } = certificate
  const [id, ...otherIds] = uriNames
  const rows: (readonly [string, string] | undefined)[] = [
    ['role', roleOf(certificate)],
    id === undefined ? undefined : ['SPIFFE ID', printable([id, ...otherIds].join(', '))],
    dnsNames.length === 0 ? undefined : ['DNS names', printable(dnsNames.join(', '))],
    subject === '' ? undefined : ['subject', subject],
    ['issuer', issuer],
    ['expires', `${relativeTime(notAfter, now)} (${isoTime(notAfter)})`],
    ['valid from', `${isoTime(notBefore)} (${relativeTime(notBefore, now)})`],
    ['key', keyName(certificate.publicKey)],
    ['signed with', certificate.signatureAlgorithm],
    ['serial number', certificate.serialNumber],
    certificate.subjectKeyId === undefined ? undefined : ['key id', certificate.subjectKeyId],
    certificate.authorityKeyId === undefined
      ? undefined
      : ['issuer key id', certificate.authorityKeyId],
    ['SHA-256', certificate.fingerprint],
  ]
  return fields(rows.filter((row) => row !== undefined))
}

function roleOf(certificate: Certificate): string {
  if (!certificate.basicConstraints?.ca) return 'leaf'
  const isRoot = Buffer.compare(certificate.issuer, certificate.subject) === 0
  return isRoot ? 'root authority' : 'intermediate authority'
}

/** Distinguished names are only shown, never compared or trusted, so Node's wording of them will do. */
function namesOf({ der }: Certificate): { readonly subject: string; readonly issuer: string } {
  const oneLine = (name: string | undefined) => printable((name ?? '').split('\n').join(', '))
  try {
    const { subject, issuer } = new X509Certificate(Buffer.from(der))
    return { subject: oneLine(subject), issuer: oneLine(issuer) }
  } catch {
    // OpenSSL reads the text in names, which nothing else here does.
    return { subject: 'not readable', issuer: 'not readable' }
  }
}

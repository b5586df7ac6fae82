import {
  boolean,
  bytesOf,
  children,
  contextTag,
  type DerElement,
  oid,
  onlyChild,
  readElement,
  readOid,
  sequence,
  sequenceItems,
  tags,
  time,
} from '../../spiffe/asn1/index.js'
import { SentryError } from '../errors.js'
import type { SvidTemplate, Validity } from '../svid-template.js'
import { type DerWriter, derWriter } from './der-writer.js'

/** A certificate of one issuer and shape with holes where certificates differ. */
export interface CertificateTemplate {
  /** DER TBSCertificate, ready to be signed. */
  splice(template: SvidTemplate): Uint8Array
  /** The certificate around it: the same algorithm again, and the signature. */
  complete(tbs: Uint8Array, signature: Uint8Array): Uint8Array
}

const SUBJECT_KEY_ID = '2.5.29.14'
const SUBJECT_ALT_NAME = '2.5.29.17'
const EXTENSIONS = contextTag(3)

/** GeneralName (RFC 5280 §4.2.1.6), implicitly tagged. */
const DNS_NAME = contextTag(2, 'primitive')
const URI_NAME = contextTag(6, 'primitive')
const IP_ADDRESS = contextTag(7, 'primitive')

const subjectKeyIdName = oid(SUBJECT_KEY_ID)
/** Critical, as it must be when the subject is empty (X509-SVID §3.1) and may be when it is not. */
const criticalAltName = Buffer.concat([oid(SUBJECT_ALT_NAME), boolean(true)])

/** Enough for the headers of one element, and for all that stands around the spliced values. */
const HEADER_OCTETS = 6
const FRAME_OCTETS = 192

/** What a template copies into every certificate as it stands. */
interface FixedParts {
  readonly version: Uint8Array
  readonly algorithm: Uint8Array
  readonly algorithmAndIssuer: Uint8Array
  readonly extensions: Uint8Array
}

const broken = (message: string) => new SentryError('CS_ISSUE_CHECK_FAILED', message)

/** Cuts the holes into a sample. Throws `CS_ISSUE_CHECK_FAILED` for one that is not as expected. */
export function cutTemplate(sampleDer: Uint8Array): CertificateTemplate {
  const fixed = fixedPartsOf(sampleDer)
  const validity = validityWriter()
  return {
    splice(template) {
      const writer = derWriter(capacityFor(fixed, template))
      const end = writer.position()
      writeExtensions(writer, { fixed, template })
      writer.bytes(template.key.publicKeyInfo)
      writer.bytes(template.subject)
      writer.bytes(validity(template))
      writer.bytes(fixed.algorithmAndIssuer)
      writeSerial(writer, template.serialNumber)
      writer.bytes(fixed.version)
      writer.wrap(tags.sequence, end)
      return writer.finish()
    },
    complete(tbs, signature) {
      const writer = derWriter(tbs.length + signature.length + FRAME_OCTETS)
      const end = writer.position()
      writer.bytes(signature)
      writer.octet(0)
      writer.wrap(tags.bitString, end)
      writer.bytes(fixed.algorithm)
      writer.bytes(tbs)
      writer.wrap(tags.sequence, end)
      return writer.finish()
    },
  }
}

function fixedPartsOf(sampleDer: Uint8Array): FixedParts {
  const [tbs] = sequenceItems(readElement(sampleDer))
  const [version, serial, algorithm, issuer, , , key, extensions, ...rest] = sequenceItems(tbs)
  if (!version || !serial || !algorithm || !issuer || !key || !extensions) {
    throw broken('sample lacks a field')
  }
  if (rest.length > 0 || extensions.tag !== EXTENSIONS) throw broken('sample has an odd field')
  return {
    version: bytesOf(version).slice(),
    algorithm: bytesOf(algorithm).slice(),
    algorithmAndIssuer: Buffer.concat([bytesOf(algorithm), bytesOf(issuer)]),
    extensions: fixedExtensionsIn(extensions),
  }
}

/** Every extension but the two that differ, which have to come last. */
function fixedExtensionsIn(extensions: DerElement): Uint8Array {
  const all = children(onlyChild(extensions))
  const names = all.map((extension) => readOid(sequenceItems(extension)[0]))
  if (names.at(-2) !== SUBJECT_KEY_ID || names.at(-1) !== SUBJECT_ALT_NAME) {
    throw broken('sample does not end in a subject key identifier and an alternative name')
  }
  return Buffer.concat(all.slice(0, -2).map(bytesOf))
}

function capacityFor(fixed: FixedParts, template: SvidTemplate): number {
  const { id, dnsNames, ipAddresses, subject, key } = template
  const names = dnsNames.reduce((sum, name) => sum + name.length + HEADER_OCTETS, id.length)
  const addresses = ipAddresses.reduce((sum, address) => sum + address.length + HEADER_OCTETS, 0)
  const spliced = names + addresses + subject.length + key.publicKeyInfo.length
  return fixed.algorithmAndIssuer.length + fixed.extensions.length + spliced + FRAME_OCTETS
}

/** Certificates made within a second mostly share their validity, so the last one is kept. */
function validityWriter(): (template: SvidTemplate) => Uint8Array {
  let last: Validity & { readonly der: Uint8Array } = {
    notBefore: Number.NaN,
    notAfter: Number.NaN,
    der: new Uint8Array(),
  }
  return ({ notBefore, notAfter }) => {
    if (last.notBefore !== notBefore || last.notAfter !== notAfter) {
      last = { notBefore, notAfter, der: sequence(time(notBefore), time(notAfter)) }
    }
    return last.der
  }
}

function writeSerial(writer: DerWriter, serialNumber: Uint8Array): void {
  const end = writer.position()
  writer.bytes(serialNumber)
  // Without it the number would be negative.
  if ((serialNumber[0] ?? 0) >= 0x80) writer.octet(0)
  writer.wrap(tags.integer, end)
}

function writeExtensions(
  writer: DerWriter,
  { fixed, template }: { readonly fixed: FixedParts; readonly template: SvidTemplate },
): void {
  const end = writer.position()
  writeSubjectAltName(writer, template)
  writeSubjectKeyId(writer, template.key.keyId)
  writer.bytes(fixed.extensions)
  writer.wrap(tags.sequence, end)
  writer.wrap(EXTENSIONS, end)
}

function writeSubjectKeyId(writer: DerWriter, keyId: Uint8Array): void {
  const end = writer.position()
  writer.bytes(keyId)
  writer.wrap(tags.octetString, end)
  writer.wrap(tags.octetString, end)
  writer.bytes(subjectKeyIdName)
  writer.wrap(tags.sequence, end)
}

function writeSubjectAltName(writer: DerWriter, template: SvidTemplate): void {
  const end = writer.position()
  for (const address of template.ipAddresses.toReversed()) {
    const nameEnd = writer.position()
    writer.bytes(address)
    writer.wrap(IP_ADDRESS, nameEnd)
  }
  for (const name of template.dnsNames.toReversed()) writeName(writer, { tag: DNS_NAME, name })
  writeName(writer, { tag: URI_NAME, name: template.id })
  writer.wrap(tags.sequence, end)
  writer.wrap(tags.octetString, end)
  writer.bytes(criticalAltName)
  writer.wrap(tags.sequence, end)
}

function writeName(
  writer: DerWriter,
  { tag, name }: { readonly tag: number; readonly name: string },
): void {
  const end = writer.position()
  writer.ascii(name)
  writer.wrap(tag, end)
}

import {
  boolean,
  bytesOf,
  children,
  contextTag,
  type DerElement,
  integer,
  octetString,
  oid,
  onlyChild,
  readElement,
  readOid,
  sequence,
  sequenceItems,
  time,
  tlv,
} from '../../spiffe/asn1/index.js'
import { SentryError } from '../errors.js'
import type { SvidTemplate } from '../svid-template.js'

/** A TBSCertificate with holes where certificates of one issuer and shape differ. */
export interface TbsTemplate {
  /** DER TBSCertificate, ready to be signed. */
  splice(template: SvidTemplate): Uint8Array
  /** DER AlgorithmIdentifier of the signature, as it also stands behind the TBSCertificate. */
  readonly algorithm: Uint8Array
}

const SUBJECT_KEY_ID = '2.5.29.14'
const SUBJECT_ALT_NAME = '2.5.29.17'
const EXTENSIONS = contextTag(3)

/** GeneralName (RFC 5280 §4.2.1.6), implicitly tagged. */
const DNS_NAME = contextTag(2, 'primitive')
const URI_NAME = contextTag(6, 'primitive')
const IP_ADDRESS = contextTag(7, 'primitive')

const subjectKeyIdName = oid(SUBJECT_KEY_ID)
const subjectAltNameStart = [oid(SUBJECT_ALT_NAME), boolean(true)]

const broken = (message: string) => new SentryError('CS_ISSUE_CHECK_FAILED', message)

/** Cuts the holes into a sample. What is between them is copied into every certificate as it stands. */
export function cutTemplate(sampleDer: Uint8Array): TbsTemplate {
  const [tbs] = sequenceItems(readElement(sampleDer))
  const [version, serial, algorithm, issuer, validity, subject, key, extensions, ...rest] =
    sequenceItems(tbs)
  if (
    !version ||
    !serial ||
    !algorithm ||
    !issuer ||
    !validity ||
    !subject ||
    !key ||
    !extensions
  ) {
    throw broken('sample lacks a field')
  }
  if (rest.length > 0 || extensions.tag !== EXTENSIONS) throw broken('sample has odd fields')

  const algorithmAndIssuer = joined(algorithm, issuer)
  const fixedExtensions = fixedIn(extensions)
  const start = bytesOf(version).slice()
  return {
    algorithm: bytesOf(algorithm).slice(),
    splice: (template) =>
      sequence(
        start,
        integer(template.serialNumber),
        algorithmAndIssuer,
        sequence(time(template.notBefore), time(template.notAfter)),
        template.subject,
        template.key.publicKeyInfo,
        tlv(
          EXTENSIONS,
          sequence(fixedExtensions, subjectKeyId(template), subjectAltName(template)),
        ),
      ),
  }
}

/** Every extension but the two that differ, which follow them. */
function fixedIn(extensions: DerElement): Uint8Array {
  const all = children(onlyChild(extensions))
  const fixed = all.filter((extension) => !isVariable(extension))
  const [last, beforeLast] = [all.at(-1), all.at(-2)]
  if (all.length - fixed.length !== 2 || !last || !beforeLast) {
    throw broken('sample lacks a subject key identifier or an alternative name')
  }
  if (!isVariable(last) || !isVariable(beforeLast)) {
    throw broken('sample has the extensions in another order')
  }
  return Buffer.concat(fixed.map(bytesOf))
}

function isVariable(extension: DerElement): boolean {
  const name = readOid(sequenceItems(extension)[0])
  return name === SUBJECT_KEY_ID || name === SUBJECT_ALT_NAME
}

function subjectKeyId({ key }: SvidTemplate): Uint8Array {
  return sequence(subjectKeyIdName, octetString(octetString(key.keyId)))
}

/** Critical, as it must be when the subject is empty (X509-SVID §3.1) and may be when it is not. */
function subjectAltName({ id, dnsNames, ipAddresses }: SvidTemplate): Uint8Array {
  const names = [
    tlv(URI_NAME, Buffer.from(id, 'latin1')),
    ...dnsNames.map((name) => tlv(DNS_NAME, Buffer.from(name, 'latin1'))),
    ...ipAddresses.map((address) => tlv(IP_ADDRESS, address)),
  ]
  return sequence(...subjectAltNameStart, octetString(sequence(...names)))
}

function joined(...elements: readonly DerElement[]): Uint8Array {
  return Buffer.concat(elements.map(bytesOf))
}

import {
  boolean,
  bytesOf,
  children,
  contextTag,
  oid,
  onlyChild,
  readElement,
  sequenceItems,
  tags,
} from '../../spiffe/asn1/index.js'
import { SentryError } from '../errors.js'
import type { SvidTemplate } from '../svid-template.js'
import { DerComparison } from './der-comparison.js'

/**
 * Where certificates agree that one issuer makes for one kind of key within a second: everything but
 * the serial number, the subject, the key and the names.
 */
export interface CertificateFrame {
  readonly notBefore: number
  readonly notAfter: number
  readonly version: Uint8Array
  readonly algorithmIssuerValidity: Uint8Array
  /** All extensions but the last two, which are the subject key identifier and the alternative name. */
  readonly extensions: Uint8Array
  readonly algorithm: Uint8Array
}

const EXTENSIONS = contextTag(3)
const DNS_NAME = contextTag(2, 'primitive')
const URI_NAME = contextTag(6, 'primitive')
const IP_ADDRESS = contextTag(7, 'primitive')

const subjectKeyIdName = oid('2.5.29.14')
const criticalAltName = Buffer.concat([oid('2.5.29.17'), boolean(true)])

/** The frame of a certificate that was found to say what the template says. */
export function frameOf(der: Uint8Array, { notBefore, notAfter }: SvidTemplate): CertificateFrame {
  const [tbs, outerAlgorithm] = sequenceItems(readElement(der))
  const [version, , algorithm, issuer, validity, , , extensions] = sequenceItems(tbs)
  if (!version || !algorithm || !issuer || !validity || !extensions || !outerAlgorithm) {
    throw new SentryError('CS_ISSUE_CHECK_FAILED', 'certificate lacks a field')
  }
  const fixed = children(onlyChild(extensions)).slice(0, -2)
  return {
    notBefore,
    notAfter,
    version: bytesOf(version).slice(),
    algorithmIssuerValidity: Buffer.concat([algorithm, issuer, validity].map(bytesOf)),
    extensions: Buffer.concat(fixed.map(bytesOf)),
    algorithm: bytesOf(outerAlgorithm).slice(),
  }
}

/**
 * Whether a certificate is this frame around exactly what the template says. It costs a tenth of a
 * parser, and `false` means only that a closer look is due.
 */
export function fillsFrame(
  der: Uint8Array,
  { frame, template }: { readonly frame: CertificateFrame; readonly template: SvidTemplate },
): boolean {
  const walk = new DerComparison(der)
  return (
    frame.notBefore === template.notBefore &&
    frame.notAfter === template.notAfter &&
    walk.open(tags.sequence) &&
    walk.open(tags.sequence) &&
    walk.bytes(frame.version) &&
    isSerial(walk, template.serialNumber) &&
    walk.bytes(frame.algorithmIssuerValidity) &&
    walk.bytes(template.subject) &&
    walk.bytes(template.key.publicKeyInfo) &&
    walk.open(EXTENSIONS) &&
    walk.open(tags.sequence) &&
    walk.bytes(frame.extensions) &&
    isKeyId(walk, template.key.keyId) &&
    isAltName(walk, template) &&
    walk.close() &&
    walk.close() &&
    walk.close() &&
    walk.bytes(frame.algorithm) &&
    walk.open(tags.bitString) &&
    walk.octet(0) &&
    walk.skipRest() &&
    walk.close() &&
    walk.close() &&
    walk.atEnd()
  )
}

function isSerial(walk: DerComparison, serialNumber: Uint8Array): boolean {
  const wouldBeNegative = (serialNumber[0] ?? 0) >= 0x80
  return (
    walk.open(tags.integer) &&
    (!wouldBeNegative || walk.octet(0)) &&
    walk.bytes(serialNumber) &&
    walk.close()
  )
}

function isKeyId(walk: DerComparison, keyId: Uint8Array): boolean {
  return (
    walk.open(tags.sequence) &&
    walk.bytes(subjectKeyIdName) &&
    walk.open(tags.octetString) &&
    walk.open(tags.octetString) &&
    walk.bytes(keyId) &&
    walk.close() &&
    walk.close() &&
    walk.close()
  )
}

function isAltName(walk: DerComparison, { id, dnsNames, ipAddresses }: SvidTemplate): boolean {
  return (
    walk.open(tags.sequence) &&
    walk.bytes(criticalAltName) &&
    walk.open(tags.octetString) &&
    walk.open(tags.sequence) &&
    walk.open(URI_NAME) &&
    walk.ascii(id) &&
    walk.close() &&
    dnsNames.every((name) => walk.open(DNS_NAME) && walk.ascii(name) && walk.close()) &&
    ipAddresses.every((ip) => walk.open(IP_ADDRESS) && walk.bytes(ip) && walk.close()) &&
    walk.close() &&
    walk.close() &&
    walk.close()
  )
}

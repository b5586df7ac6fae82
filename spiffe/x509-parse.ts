import { createHash, type KeyObject } from 'node:crypto'
import {
  assertDer,
  bytesOf,
  children,
  contextTag,
  type DerElement,
  elementAt,
  expectTag,
  onlyChild,
  readBitStringOctets,
  readElement,
  readSmallInteger,
  readTime,
  readUnsigned,
  sequenceItems,
  tags,
} from './asn1/index.js'
import { SpiffeError } from './errors.js'
import { importKey } from './public-key.js'
import { sameBytes } from './same-bytes.js'
import { nameOfSignatureAlgorithm } from './signature-algorithm.js'
import type { Certificate } from './x509-certificate.js'
import { readExtensions } from './x509-extensions.js'

/** A certificate of this size names hundreds of hosts; longer ones only cost time. */
const MAX_CERTIFICATE_BYTES = 32 * 1024
const MAX_SERIAL_OCTETS = 20
const VERSION_3 = 2

const malformed = (message: string, options?: ErrorOptions) =>
  new SpiffeError('CS_CERTIFICATE_MALFORMED', message, options)

/**
 * Reads one certificate (RFC 5280 §4.1) strictly: DER to the last byte, version 3, no extension twice, no
 * byte in an alternative name that is not printable ASCII. It judges nothing else.
 * Throws `CS_CERTIFICATE_MALFORMED`.
 */
export function parseCertificate(der: Uint8Array): Certificate {
  if (der.length > MAX_CERTIFICATE_BYTES) {
    throw malformed(`certificate is longer than ${MAX_CERTIFICATE_BYTES} bytes`)
  }
  // A copy, so that nobody who holds the bytes can change what was verified.
  return asCertificate(() => certificateIn(readElement(new Uint8Array(der))))
}

/** Cuts certificates that stand one after the other, as the Workload API sends them. Throws `CS_CERTIFICATE_MALFORMED`. */
export function splitCertificates(concatenatedDer: Uint8Array): Uint8Array[] {
  return asCertificate(() => {
    const found: Uint8Array[] = []
    for (let at = 0; at < concatenatedDer.length; ) {
      const element = elementAt(concatenatedDer, at, concatenatedDer.length)
      found.push(bytesOf(expectTag(element, tags.sequence)))
      at = element.end
    }
    return found
  })
}

function certificateIn(element: DerElement): Certificate {
  assertDer(element)
  const [tbs, algorithm, signature, ...rest] = sequenceItems(element)
  if (tbs === undefined || algorithm === undefined) throw malformed('certificate is incomplete')
  if (rest.length > 0) throw malformed('certificate has more than three parts')
  const fields = readTbs(tbs)
  const der = bytesOf(element)
  if (!sameBytes(bytesOf(fields.algorithm), bytesOf(algorithm))) {
    throw malformed('certificate names two signature algorithms')
  }

  let publicKey: KeyObject | undefined
  let fingerprint: string | undefined
  return {
    der,
    tbs: bytesOf(tbs),
    signatureAlgorithm: nameOfSignatureAlgorithm(algorithm),
    signature: readBitStringOctets(signature),
    serialNumber: fields.serialNumber,
    issuer: fields.issuer,
    subject: fields.subject,
    notBefore: fields.notBefore,
    notAfter: fields.notAfter,
    publicKeyInfo: fields.publicKeyInfo,
    get publicKey() {
      publicKey ??= asCertificate(() => importKey(fields.publicKeyInfo))
      return publicKey
    },
    ...readExtensions(fields.extensions),
    get fingerprint() {
      fingerprint ??= createHash('sha256').update(der).digest('hex')
      return fingerprint
    },
  }
}

function readTbs(tbs: DerElement) {
  const items = sequenceItems(tbs)
  assertVersion3(items.shift())
  const [serial, algorithm, issuer, validity, subject, publicKeyInfo, ...optional] = items
  if (algorithm === undefined) throw malformed('certificate is incomplete')
  const [notBefore, notAfter, ...others] = sequenceItems(validity)
  if (others.length > 0) throw malformed('validity has more than two times')
  return {
    serialNumber: serialNumberIn(serial),
    algorithm,
    issuer: nameIn(issuer),
    notBefore: readTime(notBefore),
    notAfter: readTime(notAfter),
    subject: nameIn(subject),
    publicKeyInfo: bytesOf(expectTag(publicKeyInfo, tags.sequence)),
    extensions: extensionsIn(optional),
  }
}

function assertVersion3(element: DerElement | undefined): void {
  const isVersion = element?.tag === contextTag(0)
  if (!isVersion || readSmallInteger(onlyChild(element)) !== VERSION_3) {
    throw malformed('certificate is not of version 3')
  }
}

function serialNumberIn(element: DerElement | undefined): string {
  const octets = readUnsigned(element)
  if (octets.length > MAX_SERIAL_OCTETS) throw malformed('serial number is longer than 20 octets')
  return Buffer.from(octets).toString('hex').replace(/^0+/, '') || '0'
}

/** A Name: sets of attributes, each an identifier and a value. Names are compared as bytes, not read. */
function nameIn(element: DerElement | undefined): Uint8Array {
  const name = expectTag(element, tags.sequence)
  for (const relative of sequenceItems(name)) {
    const attributes = setItems(relative)
    if (attributes.length === 0) throw malformed('name has an empty part')
    for (const attribute of attributes) {
      const [type, value, ...others] = sequenceItems(attribute)
      expectTag(type, tags.oid)
      if (value === undefined || others.length > 0)
        throw malformed('name has a part without a value')
    }
  }
  return bytesOf(name)
}

/** The extensions, which come last; the two unique identifiers before them say nothing to anyone. */
function extensionsIn(optional: DerElement[]): DerElement[] {
  let last = 0
  for (const { tag } of optional) {
    const number =
      [contextTag(1, 'primitive'), contextTag(2, 'primitive'), contextTag(3)].indexOf(tag) + 1
    if (number <= last) throw malformed('certificate has parts in a wrong order or of a wrong kind')
    last = number
  }
  const extensions = optional.at(-1)
  return last === 3 && extensions !== undefined ? sequenceItems(onlyChild(extensions)) : []
}

function setItems(element: DerElement): DerElement[] {
  return children(expectTag(element, tags.set))
}

/** Whatever goes wrong inside a certificate has the one code. */
function asCertificate<Result>(read: () => Result): Result {
  try {
    return read()
  } catch (error) {
    if (error instanceof SpiffeError && error.code === 'CS_CERTIFICATE_MALFORMED') throw error
    const reason = error instanceof SpiffeError ? error.message : 'public key cannot be used'
    throw malformed(reason, { cause: error })
  }
}

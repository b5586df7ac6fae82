import {
  children,
  contextTag,
  type DerElement,
  expectTag,
  oid,
  onlyChild,
  readElement,
  readOctetString,
  readOid,
  readVisibleText,
  sequenceItems,
  tags,
} from '../../spiffe/asn1/index.js'
import { SpiffeError, type SpiffeId } from '../../spiffe/index.js'
import { SentryError } from '../errors.js'

const EXTENSION_REQUEST = '1.2.840.113549.1.9.14'
const SUBJECT_ALT_NAME = '2.5.29.17'
/** How that identifier stands in DER. A request without these bytes asks for no name. */
const SUBJECT_ALT_NAME_DER = Buffer.from(oid(SUBJECT_ALT_NAME))
/** GeneralName, RFC 5280 §4.2.1.6. */
const DNS_NAME = contextTag(2, 'primitive')
const URI = contextTag(6, 'primitive')

export interface RequestedNames {
  readonly uri: string
  readonly dnsNames: readonly string[]
}

/**
 * What an SVID says comes from an entry. A request that asks for something else has been mixed up or
 * tampered with: it is refused, and not overruled in silence (SPIFFE-ID §4.1.2). Throws
 * `CS_CSR_MALFORMED`, `CS_REQUEST_INVALID`.
 */
export function assertNothingElse(
  csr: Uint8Array,
  granted: { readonly id: SpiffeId; readonly dnsNames: readonly string[] },
): void {
  const bytes = Buffer.from(csr.buffer, csr.byteOffset, csr.byteLength)
  if (!bytes.includes(SUBJECT_ALT_NAME_DER)) return
  const other = subjectAltNamesIn(csr).find((name) => !isGranted(name, granted))
  if (other) throw invalid('CSR asks for a name that is not the one of its SVID')
}

function isGranted(
  name: DerElement,
  { id, dnsNames }: { readonly id: SpiffeId; readonly dnsNames: readonly string[] },
): boolean {
  switch (name.tag) {
    case URI:
      return readVisibleText(name) === id
    case DNS_NAME:
      return dnsNames.includes(readVisibleText(name))
    default:
      return false
  }
}

/**
 * The names that a request asks for. Only an administrator may ask, to mint; for everybody else names
 * come from entries. Throws `CS_CSR_MALFORMED`, `CS_REQUEST_INVALID`.
 */
export function requestedNames(csr: Uint8Array): RequestedNames {
  const names = subjectAltNamesIn(csr)
  const uris = names.filter(({ tag }) => tag === URI).map(readVisibleText)
  const dnsNames = names.filter(({ tag }) => tag === DNS_NAME).map(readVisibleText)
  const [uri, ...more] = uris
  if (uri === undefined) throw invalid('CSR URI SAN is required')
  if (more.length > 0) throw invalid('only one URI SAN is expected')
  assertNoCoveredName(dnsNames)
  return { uri, dnsNames }
}

function subjectAltNamesIn(csr: Uint8Array): readonly DerElement[] {
  try {
    const [info] = sequenceItems(readElement(csr))
    const attributes = sequenceItems(info).find(({ tag }) => tag === contextTag(0))
    const extensions = attributes ? children(attributes).flatMap(requestedExtensions) : []
    return extensions.flatMap((extension) => {
      const [id, ...rest] = sequenceItems(extension)
      if (readOid(id) !== SUBJECT_ALT_NAME) return []
      return sequenceItems(readElement(readOctetString(rest.at(-1))))
    })
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    throw new SentryError('CS_CSR_MALFORMED', `malformed CSR: ${error.message}`, { cause: error })
  }
}

function requestedExtensions(attribute: DerElement): DerElement[] {
  const [id, values] = sequenceItems(attribute)
  if (readOid(id) !== EXTENSION_REQUEST) return []
  return sequenceItems(onlyChild(expectTag(values, tags.set)))
}

function assertNoCoveredName(names: readonly string[]): void {
  const lower = new Set(names.map((name) => name.toLowerCase()))
  const covered = [...lower].some(
    (name) => !name.startsWith('*.') && lower.has(`*.${name.split('.').slice(1).join('.')}`),
  )
  if (covered) {
    throw invalid('CSR DNS name contains a wildcard that covers another non-wildcard name')
  }
}

function invalid(message: string): SentryError {
  return new SentryError('CS_REQUEST_INVALID', message)
}

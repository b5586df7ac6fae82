import {
  children,
  contentOf,
  contextTag,
  type DerElement,
  expectTag,
  readBitString,
  readBoolean,
  readElement,
  readOctetString,
  readOid,
  readSmallInteger,
  readVisibleText,
  sequenceItems,
  tags,
} from './asn1/index.js'
import { SpiffeError } from './errors.js'
import type { Certificate, NameConstraints } from './x509-certificate.js'

/** The part of a certificate that its extensions say. */
export type ExtensionFields = Pick<
  Certificate,
  | 'authorityKeyId'
  | 'basicConstraints'
  | 'criticalExtensions'
  | 'dnsNames'
  | 'extendedKeyUsage'
  | 'ipNames'
  | 'keyUsage'
  | 'nameConstraints'
  | 'subjectAltNameCritical'
  | 'subjectKeyId'
  | 'unknownCritical'
  | 'uriNames'
>

type Draft = { -readonly [Name in keyof ExtensionFields]: ExtensionFields[Name] }

/** RFC 5280 §4.2.1, by identifier. */
export const extensionIds = {
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  nameConstraints: '2.5.29.30',
  authorityKeyId: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
} as const

const malformed = (message: string) => new SpiffeError('CS_CERTIFICATE_MALFORMED', message)

const readers: Readonly<Record<string, (value: DerElement, draft: Draft) => void>> = {
  [extensionIds.subjectKeyId]: (value, draft) => {
    draft.subjectKeyId = hex(readOctetString(value))
  },
  [extensionIds.keyUsage]: (value, draft) => {
    draft.keyUsage = flagsIn(value)
  },
  [extensionIds.subjectAltName]: readAlternativeNames,
  [extensionIds.basicConstraints]: (value, draft) => {
    draft.basicConstraints = basicConstraintsIn(value)
  },
  [extensionIds.nameConstraints]: (value, draft) => {
    draft.nameConstraints = nameConstraintsIn(value)
  },
  [extensionIds.authorityKeyId]: (value, draft) => {
    const id = sequenceItems(value).find(({ tag }) => tag === contextTag(0, 'primitive'))
    draft.authorityKeyId = id === undefined ? undefined : hex(contentOf(id))
  },
  [extensionIds.extendedKeyUsage]: (value, draft) => {
    draft.extendedKeyUsage = sequenceItems(value).map(readOid)
    if (draft.extendedKeyUsage.length === 0) throw malformed('extended key usage is empty')
  },
}

/** Reads the extensions of a certificate, each at most once. Throws `CS_CERTIFICATE_MALFORMED` or `CS_DER_MALFORMED`. */
export function readExtensions(extensions: readonly DerElement[]): ExtensionFields {
  const draft = emptyDraft()
  const seen = new Set<string>()
  const critical: string[] = []
  const unknownCritical: string[] = []
  for (const element of extensions) {
    const extension = extensionIn(element)
    if (seen.has(extension.id)) throw malformed(`extension ${extension.id} occurs twice`)
    seen.add(extension.id)
    if (extension.critical) critical.push(extension.id)
    const read = Object.hasOwn(readers, extension.id) ? readers[extension.id] : undefined
    if (read) read(readElement(extension.value), draft)
    else if (extension.critical) unknownCritical.push(extension.id)
  }
  const subjectAltNameCritical = critical.includes(extensionIds.subjectAltName)
  return { ...draft, subjectAltNameCritical, criticalExtensions: critical, unknownCritical }
}

function emptyDraft(): Draft {
  return {
    basicConstraints: undefined,
    keyUsage: undefined,
    extendedKeyUsage: undefined,
    uriNames: [],
    dnsNames: [],
    ipNames: [],
    subjectAltNameCritical: false,
    subjectKeyId: undefined,
    authorityKeyId: undefined,
    nameConstraints: undefined,
    criticalExtensions: [],
    unknownCritical: [],
  }
}

function extensionIn(element: DerElement) {
  const items = sequenceItems(element)
  const id = readOid(items[0])
  // DER leaves FALSE out; issuers that write it down are common and mean the same.
  const flag = items.length === 3 ? items[1] : undefined
  if (items.length < 2 || items.length > 3) throw malformed(`extension ${id} has a wrong shape`)
  const critical = flag === undefined ? false : readBoolean(flag)
  return { id, critical, value: readOctetString(items.at(-1)) }
}

/** Named bits as a number in which bit n is bit n of the standard. */
function flagsIn(element: DerElement): number {
  const { bytes, unusedBits } = readBitString(element)
  const count = bytes.length * 8 - unusedBits
  if (count > 31) throw malformed('key usage has too many bits')
  let flags = 0
  for (let bit = 0; bit < count; bit += 1) {
    if (((bytes[bit >> 3] ?? 0) & (0x80 >> (bit & 7))) !== 0) flags |= 1 << bit
  }
  return flags
}

function basicConstraintsIn(element: DerElement): Certificate['basicConstraints'] {
  const items = sequenceItems(element)
  const ca = items[0]?.tag === tags.boolean ? readBoolean(items.shift() as DerElement) : false
  const [length, ...others] = items
  if (others.length > 0) throw malformed('basic constraints have a wrong shape')
  const pathLength = length === undefined ? undefined : readSmallInteger(length)
  if (pathLength !== undefined && !ca) throw malformed('path length without being a CA')
  return { ca, pathLength }
}

/** The tags of GeneralName (RFC 5280 §4.2.1.6). */
const names = {
  email: contextTag(1, 'primitive'),
  dns: contextTag(2, 'primitive'),
  uri: contextTag(6, 'primitive'),
  ip: contextTag(7, 'primitive'),
} as const

const otherNames = new Set([
  contextTag(0),
  contextTag(3),
  contextTag(4),
  contextTag(5),
  contextTag(8, 'primitive'),
])

function readAlternativeNames(element: DerElement, draft: Draft): void {
  const found = sequenceItems(element)
  if (found.length === 0) throw malformed('subject alternative name is empty')
  const textsOf = (tag: number) => found.filter((name) => name.tag === tag).map(readVisibleText)
  draft.uriNames = textsOf(names.uri)
  draft.dnsNames = textsOf(names.dns)
  textsOf(names.email)
  draft.ipNames = found.filter(({ tag }) => tag === names.ip).map(ipNameIn)
  assertNameKinds(found)
}

function assertNameKinds(found: readonly DerElement[]): void {
  const kinds: ReadonlySet<number> = new Set<number>(Object.values(names))
  if (found.some(({ tag }) => !kinds.has(tag) && !otherNames.has(tag))) {
    throw malformed('subject alternative name holds a name of no known kind')
  }
}

function ipNameIn(name: DerElement): Uint8Array {
  const bytes = contentOf(name)
  if (bytes.length !== 4 && bytes.length !== 16) throw malformed('IP name is not of 4 or 16 bytes')
  return bytes
}

function nameConstraintsIn(element: DerElement): NameConstraints {
  const subtrees = sequenceItems(element)
  const permitted = subtreesIn(subtrees, contextTag(0))
  const excluded = subtreesIn(subtrees, contextTag(1))
  const tagsInOrder = subtrees.map(({ tag }) => tag)
  if (
    subtrees.length === 0 ||
    tagsInOrder.some((tag, index) => tag <= (tagsInOrder[index - 1] ?? 0))
  ) {
    throw malformed('name constraints have a wrong shape')
  }
  return {
    permittedUris: permitted.uris,
    excludedUris: excluded.uris,
    permittedDns: permitted.dns,
    excludedDns: excluded.dns,
    others: permitted.others || excluded.others,
  }
}

/** A host name, or with a dot in front everything below one; empty stands for every host. */
const CONSTRAINT = /^(\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*)?$/i

function subtreesIn(subtrees: readonly DerElement[], tag: number) {
  const found = { uris: [] as string[], dns: [] as string[], others: false }
  const list = subtrees.find((candidate) => candidate.tag === tag)
  for (const subtree of list === undefined ? [] : children(list)) {
    const [base, ...bounds] = sequenceItems(subtree)
    const name = expectTag(base, base?.tag ?? 0)
    // RFC 5280 fixes minimum to 0, which DER leaves out, and forbids maximum.
    if (bounds.length > 0 || (name.tag !== names.uri && name.tag !== names.dns)) {
      found.others = true
      continue
    }
    const text = readVisibleText(name).toLowerCase()
    if (!CONSTRAINT.test(text)) throw malformed('name constraint is not a host or domain name')
    if (name.tag === names.uri) found.uris.push(text)
    else found.dns.push(text)
  }
  return found
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')
}

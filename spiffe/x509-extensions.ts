import {
  contentOf,
  contextTag,
  type DerElement,
  readBitString,
  readBoolean,
  readElement,
  readOctetString,
  readOid,
  readSmallInteger,
  sequenceItems,
  tags,
} from './asn1/index.js'
import { SpiffeError } from './errors.js'
import type { Certificate } from './x509-certificate.js'
import { alternativeNamesIn, nameConstraintsIn } from './x509-general-names.js'

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
  [extensionIds.subjectAltName]: (value, draft) => {
    Object.assign(draft, alternativeNamesIn(value))
  },
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

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')
}

import {
  children,
  contentOf,
  contextTag,
  type DerElement,
  expectTag,
  readVisibleText,
  sequenceItems,
} from './asn1/index.js'
import { SpiffeError } from './errors.js'
import type { Certificate, NameConstraints } from './x509-certificate.js'

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

const malformed = (message: string) => new SpiffeError('CS_CERTIFICATE_MALFORMED', message)

/** Reads a subject alternative name (RFC 5280 §4.2.1.6). Throws `CS_CERTIFICATE_MALFORMED` or `CS_DER_MALFORMED`. */
export function alternativeNamesIn(
  element: DerElement,
): Pick<Certificate, 'uriNames' | 'dnsNames' | 'ipNames'> {
  const found = sequenceItems(element)
  if (found.length === 0) throw malformed('subject alternative name is empty')
  assertNameKinds(found)
  const textsOf = (tag: number) => found.filter((name) => name.tag === tag).map(readVisibleText)
  // Read so that a bad byte is noticed there too; nothing is decided on it.
  textsOf(names.email)
  return {
    uriNames: textsOf(names.uri),
    dnsNames: textsOf(names.dns),
    ipNames: found.filter(({ tag }) => tag === names.ip).map(ipNameIn),
  }
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

/** Reads name constraints (RFC 5280 §4.2.1.10). Throws `CS_CERTIFICATE_MALFORMED` or `CS_DER_MALFORMED`. */
export function nameConstraintsIn(element: DerElement): NameConstraints {
  const lists = sequenceItems(element)
  assertListShape(lists)
  const permitted = subtreesIn(lists, contextTag(0))
  const excluded = subtreesIn(lists, contextTag(1))
  return {
    permittedUris: permitted.uris,
    excludedUris: excluded.uris,
    permittedDns: permitted.dns,
    excludedDns: excluded.dns,
    others: permitted.others || excluded.others,
  }
}

/** Permitted subtrees, excluded ones or both in this order, and none of them empty: a limit may not vanish. */
function assertListShape(lists: readonly DerElement[]): void {
  const known = [contextTag(0), contextTag(1)].filter((tag) =>
    lists.some((list) => list.tag === tag),
  )
  const isInOrder =
    known.length === lists.length && lists.every(({ tag }, index) => tag === known[index])
  const isFilled = lists.length > 0 && lists.every((list) => children(list).length > 0)
  if (!isInOrder || !isFilled) throw malformed('name constraints have a wrong shape')
}

/** A host name, or with a dot in front everything below one; empty stands for every host. */
const CONSTRAINT = /^(\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*)?$/i

function subtreesIn(lists: readonly DerElement[], tag: number) {
  const found = { uris: [] as string[], dns: [] as string[], others: false }
  const list = lists.find((candidate) => candidate.tag === tag)
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

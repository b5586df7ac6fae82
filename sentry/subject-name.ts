import { oid, printableString, sequence, setOf, utf8String } from '../spiffe/asn1/index.js'
import { SentryError } from './errors.js'

declare const brand: unique symbol

/** DER of a distinguished name. Made only by {@link subjectName}. */
export type SubjectName = Uint8Array & { readonly [brand]: 'SubjectName' }

export type SubjectAttribute = keyof typeof attributes

const attributes = {
  country: { oid: '2.5.4.6', longest: 2, write: printableString },
  organization: { oid: '2.5.4.10', longest: 64, write: utf8String },
  organizationalUnit: { oid: '2.5.4.11', longest: 64, write: utf8String },
  commonName: { oid: '2.5.4.3', longest: 64, write: utf8String },
  serialNumber: { oid: '2.5.4.5', longest: 64, write: printableString },
} as const

const COUNTRY = /^[A-Z]{2}$/
const UNPRINTABLE = /[\p{Cc}\p{Cs}]/u

const invalid = (message: string) => new SentryError('CS_ISSUE_REQUEST_INVALID', message)

/** The subject of an SVID in the order given; none leaves it empty. Throws `CS_ISSUE_REQUEST_INVALID`. */
export function subjectName(
  parts: Readonly<Partial<Record<SubjectAttribute, string>>>,
): SubjectName {
  const names = Object.entries(parts).map(([name, value]) => part(name as SubjectAttribute, value))
  return sequence(...names) as SubjectName
}

export const emptySubject: SubjectName = subjectName({})

function part(name: SubjectAttribute, value: string): Uint8Array {
  const attribute = attributes[name]
  if (value === '' || value.length > attribute.longest || UNPRINTABLE.test(value)) {
    throw invalid(`subject has an empty, overlong or unprintable ${name}`)
  }
  if (name === 'country' && !COUNTRY.test(value)) {
    throw invalid('country of the subject is not two capital letters')
  }
  return setOf(sequence(oid(attribute.oid), attribute.write(value)))
}

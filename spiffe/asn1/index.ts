/**
 * A strict reader and a writer for the DER that certificates, requests and keys are made of: definite and
 * shortest lengths only, nothing after the end, bounded depth. Everything throws `CS_DER_MALFORMED`.
 */
export {
  assertDer,
  bytesOf,
  children,
  contentOf,
  type DerElement,
  elementAt,
  expectTag,
  onlyChild,
  readElement,
  sequenceItems,
} from './read.js'
export { contextTag, isConstructed, tags } from './tags.js'
export {
  type BitString,
  bitStringIn,
  readBitString,
  readBitStringOctets,
  readBoolean,
  readInteger,
  readOctetString,
  readOid,
  readSmallInteger,
  readTime,
  readUnsigned,
  readVisibleText,
} from './values.js'
export {
  bitString,
  boolean,
  integer,
  namedBits,
  nullValue,
  octetString,
  oid,
  printableString,
  sequence,
  setOf,
  time,
  tlv,
  utf8String,
} from './write.js'

/** The identifier octets that certificates, requests and keys are made of (X.690 §8.1.2). */
export const tags = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const

const CONTEXT = 0x80
const CONSTRUCTED = 0x20

/** The tag `[n]`; constructed unless it stands for a primitive type under an implicit tag. */
export function contextTag(
  number: number,
  form: 'constructed' | 'primitive' = 'constructed',
): number {
  return CONTEXT | (form === 'constructed' ? CONSTRUCTED : 0) | number
}

export function isConstructed(tag: number): boolean {
  return (tag & CONSTRUCTED) !== 0
}

import { assertIssuedLeafProfile, type Certificate, parseCertificate } from '../../spiffe/index.js'
import { SentryError } from '../errors.js'
import { keyUsageOf, shapeFor } from '../signing/leaf-shape.js'
import type { JwtSigner, X509Signer } from '../signing/signer.js'
import { type SvidTemplate, serialText } from '../svid-template.js'
import type { TokenTemplate } from '../token-template.js'

const wrong = (what: string, options?: ErrorOptions) =>
  new SentryError('CS_ISSUE_CHECK_FAILED', `${what} is not what was asked`, options)

/**
 * Reads what a signer returned as a stranger would and compares every field with the template: the
 * profile by the function that verifiers use, then each value. Returns the leaf. Throws
 * `CS_ISSUE_CHECK_FAILED`.
 *
 * The signature is not verified again. A certificate that says too much would be believed; one with a
 * broken signature is believed by nobody, and a key is tried before it is used.
 */
export function assertSaysWhatWasAsked(
  chain: readonly [Uint8Array, ...Uint8Array[]],
  { template, signer }: { readonly template: SvidTemplate; readonly signer: X509Signer },
): Certificate {
  const leaf = readLeaf(chain[0])
  assertNames(leaf, template)
  if (leaf.serialNumber !== serialText(template.serialNumber)) throw wrong('serial number')
  if (leaf.notBefore !== template.notBefore) throw wrong('start of validity')
  if (leaf.notAfter !== template.notAfter) throw wrong('end of validity')
  if (!equal(leaf.publicKeyInfo, template.key.publicKeyInfo)) throw wrong('key')
  if (leaf.subjectKeyId !== hex(template.key.keyId)) throw wrong('subject key identifier')
  if (leaf.authorityKeyId !== signer.issuer.subjectKeyId) throw wrong('authority key identifier')
  if (!equal(leaf.issuer, signer.issuer.subject)) throw wrong('issuer')
  if (leaf.keyUsage !== keyUsageOf(shapeFor(template.key.kind))) throw wrong('key usage')
  return leaf
}

/** The same for a token: its header is the key's, and its claims are the template's and no others. */
export function assertTokenSaysWhatWasAsked(
  token: string,
  { template, signer }: { readonly template: TokenTemplate; readonly signer: JwtSigner },
): void {
  const [header = '', claims = '', ...rest] = token.split('.')
  if (rest.length !== 1) throw wrong('form of the token')
  assertHeader(header, signer)
  const { issuer, subject, audience, issuedAt, expiresAt, tokenId } = template
  const asked = { sub: subject, aud: audience, exp: expiresAt, iat: issuedAt, jti: tokenId }
  const withIssuer = issuer === undefined ? asked : { iss: issuer, ...asked }
  if (!sameMembers(decoded(claims), withIssuer)) throw wrong('claims of the token')
}

/** The header that was read and found right is the same text in every token of its signer. */
const knownHeaders = new WeakMap<JwtSigner, string>()

function assertHeader(header: string, signer: JwtSigner): void {
  if (knownHeaders.get(signer) === header) return
  const { keyId, algorithm } = signer
  if (!sameMembers(decoded(header), { alg: algorithm, kid: keyId, typ: 'JWT' })) {
    throw wrong('header of the token')
  }
  knownHeaders.set(signer, header)
}

function readLeaf(der: Uint8Array): Certificate {
  try {
    const leaf = parseCertificate(der)
    assertIssuedLeafProfile(leaf)
    return leaf
  } catch (error) {
    throw wrong('form of the certificate', { cause: error })
  }
}

function assertNames(leaf: Certificate, { id, dnsNames, ipAddresses, subject }: SvidTemplate) {
  // The profile has seen to it that there is exactly one URI.
  if (leaf.uriNames[0] !== id) throw wrong('SPIFFE ID')
  if (!sameList(leaf.dnsNames, dnsNames)) throw wrong('list of DNS names')
  if (!sameList(leaf.ipNames.map(hex), ipAddresses.map(hex))) throw wrong('list of IP addresses')
  if (!equal(leaf.subject, subject)) throw wrong('subject')
  if (leaf.unknownCritical.length > 0) throw wrong('set of critical extensions')
}

function decoded(part: string): Readonly<Record<string, unknown>> {
  try {
    return JSON.parse(Buffer.from(part, 'base64url').toString('utf8')) as Record<string, unknown>
  } catch (error) {
    throw wrong('form of the token', { cause: error })
  }
}

function sameMembers(
  found: Readonly<Record<string, unknown>>,
  asked: Readonly<Record<string, string | number | readonly string[]>>,
): boolean {
  const names = Object.keys(asked)
  if (Object.keys(found).length !== names.length) return false
  return names.every((name) => {
    const [value, wanted] = [found[name], asked[name]]
    return Array.isArray(wanted) ? sameList(value, wanted as readonly string[]) : value === wanted
  })
}

function sameList(found: unknown, asked: readonly string[]): boolean {
  return (
    Array.isArray(found) &&
    found.length === asked.length &&
    asked.every((value, index) => found[index] === value)
  )
}

function equal(left: Uint8Array, right: Uint8Array): boolean {
  return Buffer.compare(left, right) === 0
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')
}

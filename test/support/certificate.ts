import {
  constants,
  createHash,
  createPrivateKey,
  type KeyObject,
  randomBytes,
  sign,
} from 'node:crypto'
import {
  bitString,
  boolean,
  contextTag,
  integer,
  namedBits,
  nullValue,
  octetString,
  oid,
  sequence,
  setOf,
  time,
  tlv,
  utf8String,
} from '../../spiffe/asn1/index.js'

/** Whoever signs: the name it signs under and its key. */
export interface TestIssuer {
  readonly subject: Uint8Array
  readonly privateKey: KeyObject
  readonly publicKeyInfo: Uint8Array
}

export interface TestExtension {
  readonly id: string
  readonly critical?: boolean
  readonly value: Uint8Array
}

/** Everything a certificate may say, right or wrong. Nothing is checked: the defect is the point. */
export interface CertificateRecipe {
  readonly subject: Uint8Array
  readonly publicKeyInfo: Uint8Array
  readonly issuer: TestIssuer
  readonly notBefore: number
  readonly notAfter: number
  readonly extensions?: readonly TestExtension[]
  readonly serial?: Uint8Array
  readonly signature?: keyof typeof signatures
}

type Signer = (tbs: Uint8Array, key: KeyObject) => Uint8Array

const ecdsa =
  (hash: string): Signer =>
  (tbs, key) =>
    sign(hash, tbs, key)
const pkcs1 = ecdsa
const pss =
  (hash: string): Signer =>
  (tbs, key) =>
    sign(hash, tbs, {
      key,
      padding: constants.RSA_PKCS1_PSS_PADDING,
      saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
    })

const pssParameters = (hash: string, salt: number) => {
  const algorithm = sequence(oid(hash), nullValue())
  const mask = sequence(oid('1.2.840.113549.1.1.8'), algorithm)
  return sequence(tlv(0xa0, algorithm), tlv(0xa1, mask), tlv(0xa2, integer(salt)))
}

/** By the names of the parser, good ones and bad. */
export const signatures = {
  'ECDSA-SHA256': { id: sequence(oid('1.2.840.10045.4.3.2')), make: ecdsa('sha256') },
  'ECDSA-SHA384': { id: sequence(oid('1.2.840.10045.4.3.3')), make: ecdsa('sha384') },
  'ECDSA-SHA512': { id: sequence(oid('1.2.840.10045.4.3.4')), make: ecdsa('sha512') },
  'ECDSA-SHA1': { id: sequence(oid('1.2.840.10045.4.1')), make: ecdsa('sha1') },
  'RSA-SHA256': { id: sequence(oid('1.2.840.113549.1.1.11'), nullValue()), make: pkcs1('sha256') },
  'RSA-SHA384': { id: sequence(oid('1.2.840.113549.1.1.12'), nullValue()), make: pkcs1('sha384') },
  'RSA-SHA512': { id: sequence(oid('1.2.840.113549.1.1.13'), nullValue()), make: pkcs1('sha512') },
  'RSA-SHA1': { id: sequence(oid('1.2.840.113549.1.1.5'), nullValue()), make: pkcs1('sha1') },
  'RSA-MD5': { id: sequence(oid('1.2.840.113549.1.1.4'), nullValue()), make: pkcs1('md5') },
  'RSAPSS-SHA256': {
    id: sequence(oid('1.2.840.113549.1.1.10'), pssParameters('2.16.840.1.101.3.4.2.1', 32)),
    make: pss('sha256'),
  },
  'RSAPSS-SHA512': {
    id: sequence(oid('1.2.840.113549.1.1.10'), pssParameters('2.16.840.1.101.3.4.2.3', 64)),
    make: pss('sha512'),
  },
  'RSAPSS-SHA1': { id: sequence(oid('1.2.840.113549.1.1.10'), sequence()), make: pss('sha1') },
  Ed25519: {
    id: sequence(oid('1.3.101.112')),
    make: (tbs: Uint8Array, key: KeyObject) => sign(null, tbs, key),
  },
} as const satisfies Record<string, { id: Uint8Array; make: Signer }>

/** Writes and signs a certificate, DER. */
export function makeCertificate(recipe: CertificateRecipe): Uint8Array {
  const { id, make } = signatures[recipe.signature ?? usualSignature(recipe.issuer.privateKey)]
  const tbs = sequence(
    tlv(contextTag(0), integer(2)),
    integer(recipe.serial ?? randomSerial()),
    id,
    recipe.issuer.subject,
    sequence(time(recipe.notBefore), time(recipe.notAfter)),
    recipe.subject,
    recipe.publicKeyInfo,
    ...(recipe.extensions?.length
      ? [tlv(contextTag(3), sequence(...recipe.extensions.map(writeExtension)))]
      : []),
  )
  return sequence(tbs, id, bitString(make(tbs, recipe.issuer.privateKey)))
}

/** A name with one organisation and one common name; none for an empty name. */
export function name(commonName?: string): Uint8Array {
  if (commonName === undefined) return sequence()
  return sequence(
    setOf(sequence(oid('2.5.4.10'), utf8String('SPIFFE'))),
    setOf(sequence(oid('2.5.4.3'), utf8String(commonName))),
  )
}

export interface AlternativeNames {
  readonly uris?: readonly string[]
  readonly dns?: readonly string[]
  readonly ips?: readonly Uint8Array[]
  readonly emails?: readonly string[]
}

const latin1 = (text: string) => Buffer.from(text, 'latin1')

/** The extensions of the profile, one function each. */
export const extension = {
  basicConstraints: (ca: boolean, pathLength?: number): TestExtension => ({
    id: '2.5.29.19',
    critical: true,
    value: sequence(
      ...(ca ? [boolean(true)] : []),
      ...(pathLength === undefined ? [] : [integer(pathLength)]),
    ),
  }),
  keyUsage: (flags: number): TestExtension => ({
    id: '2.5.29.15',
    critical: true,
    value: namedBits(flags),
  }),
  extendedKeyUsage: (...purposes: readonly string[]): TestExtension => ({
    id: '2.5.29.37',
    value: sequence(...purposes.map(oid)),
  }),
  subjectAltName: (names: AlternativeNames, critical = false): TestExtension => ({
    id: '2.5.29.17',
    critical,
    value: sequence(
      ...(names.emails ?? []).map((email) => tlv(0x81, latin1(email))),
      ...(names.dns ?? []).map((host) => tlv(0x82, latin1(host))),
      ...(names.uris ?? []).map((uri) => tlv(0x86, latin1(uri))),
      ...(names.ips ?? []).map((ip) => tlv(0x87, ip)),
    ),
  }),
  subjectKeyId: (publicKeyInfo: Uint8Array): TestExtension => ({
    id: '2.5.29.14',
    value: octetString(keyIdOf(publicKeyInfo)),
  }),
  authorityKeyId: (publicKeyInfo: Uint8Array): TestExtension => ({
    id: '2.5.29.35',
    value: sequence(tlv(0x80, keyIdOf(publicKeyInfo))),
  }),
  nameConstraints: (subtrees: {
    readonly permitted?: readonly Uint8Array[]
    readonly excluded?: readonly Uint8Array[]
  }): TestExtension => ({
    id: '2.5.29.30',
    critical: true,
    value: sequence(
      ...(subtrees.permitted
        ? [tlv(0xa0, ...subtrees.permitted.map((base) => sequence(base)))]
        : []),
      ...(subtrees.excluded ? [tlv(0xa1, ...subtrees.excluded.map((base) => sequence(base)))] : []),
    ),
  }),
  unknown: (critical: boolean): TestExtension => ({
    id: '1.3.6.1.4.1.65980.99',
    critical,
    value: nullValue(),
  }),
}

export const uriSubtree = (host: string) => tlv(0x86, latin1(host))
export const dnsSubtree = (host: string) => tlv(0x82, latin1(host))

export function issuerFrom(
  privateKey: KeyObject,
  publicKey: KeyObject,
  subject: Uint8Array,
): TestIssuer {
  return { subject, privateKey, publicKeyInfo: publicKeyInfoOf(publicKey) }
}

export function publicKeyInfoOf(publicKey: KeyObject): Uint8Array {
  return new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }))
}

export function pkcs8Of(privateKey: KeyObject): Uint8Array {
  return new Uint8Array(privateKey.export({ type: 'pkcs8', format: 'der' }))
}

export function privateKeyFrom(pkcs8: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.from(pkcs8), format: 'der', type: 'pkcs8' })
}

function usualSignature(key: KeyObject): keyof typeof signatures {
  if (key.asymmetricKeyType === 'rsa') return 'RSA-SHA256'
  return key.asymmetricKeyType === 'ed25519' ? 'Ed25519' : 'ECDSA-SHA256'
}

function writeExtension({ id, critical, value }: TestExtension): Uint8Array {
  return sequence(oid(id), ...(critical ? [boolean(true)] : []), octetString(value))
}

function keyIdOf(publicKeyInfo: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(publicKeyInfo).digest().subarray(0, 20))
}

function randomSerial(): Uint8Array {
  const serial = new Uint8Array(randomBytes(16))
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40
  return serial
}

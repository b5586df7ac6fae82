import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { parseCertificate, parseTrustDomain, type TrustBundle } from '../../spiffe/index.js'
import {
  type AlternativeNames,
  type CertificateRecipe,
  extension,
  makeCertificate,
  name,
  publicKeyInfoOf,
  type TestExtension,
} from '../support/certificate.js'

/** The moment at which every case is judged. */
export const NOW = new Date('2026-11-20T12:00:00Z')
export const MINUTE = 60_000
export const HOUR = 60 * MINUTE

export const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
export const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'
export const CODE_SIGNING = '1.3.6.1.5.5.7.3.3'
export const ANY_PURPOSE = '2.5.29.37.0'

export const ID = 'spiffe://td.example/ns/prod/app/pay'

export interface TestKeys {
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
}

type KeyKind = 'P-256' | 'P-384' | 'P-521' | 'secp256k1' | 'ed25519' | 'rsa-1024' | 'rsa-2048'

const made = new Map<string, TestKeys>()

/** A key pair by its role, made once for all cases; RSA keys take long. */
export function keys(role: string, kind: KeyKind = 'P-256'): TestKeys {
  const key = `${role} ${kind}`
  const held = made.get(key) ?? makeKeys(kind)
  made.set(key, held)
  return held
}

/** What may be said otherwise than a good certificate of its place says it. `none` leaves an extension out. */
export interface Spec {
  readonly keys?: TestKeys
  readonly subject?: Uint8Array
  /** Who signs: keys, and the name to put as issuer. */
  readonly signedBy?: TestKeys
  readonly issuer?: Uint8Array
  readonly notBefore?: number
  readonly notAfter?: number
  readonly ca?: boolean | 'none'
  readonly pathLength?: number
  readonly keyUsage?: number | 'none'
  readonly purposes?: readonly string[]
  readonly names?: AlternativeNames | 'none'
  readonly namesCritical?: boolean
  readonly keyIds?: 'none' | 'wrong'
  readonly extra?: readonly TestExtension[]
  readonly signature?: CertificateRecipe['signature']
}

export const rootName = name('td.example root')
export const issuerName = name('td.example issuer')
export const DIGITAL_SIGNATURE = 1
export const CERT_SIGN = 1 << 5
export const CRL_SIGN = 1 << 6

export function root(spec: Spec = {}): Uint8Array {
  return certificate({
    keys: keys('root'),
    signedBy: spec.keys ?? keys('root'),
    subject: rootName,
    issuer: spec.subject ?? rootName,
    ca: true,
    keyUsage: CERT_SIGN | CRL_SIGN,
    names: { uris: ['spiffe://td.example'] },
    ...spec,
  })
}

export function issuer(spec: Spec = {}): Uint8Array {
  return certificate({
    keys: keys('issuer'),
    signedBy: keys('root'),
    subject: issuerName,
    issuer: rootName,
    ca: true,
    keyUsage: CERT_SIGN | CRL_SIGN,
    names: { uris: ['spiffe://td.example'] },
    ...spec,
  })
}

export function leaf(spec: Spec = {}): Uint8Array {
  return certificate({
    keys: keys('leaf'),
    signedBy: keys('issuer'),
    subject: name(),
    issuer: issuerName,
    ca: false,
    keyUsage: DIGITAL_SIGNATURE,
    purposes: [SERVER_AUTH, CLIENT_AUTH],
    names: { uris: [ID] },
    namesCritical: true,
    ...spec,
  })
}

export function bundle(domain: string, roots: readonly Uint8Array[]): TrustBundle {
  return {
    trustDomain: parseTrustDomain(domain),
    x509Authorities: roots.map(parseCertificate),
    jwtAuthorities: new Map(),
  }
}

type FullSpec = Spec & Required<Pick<Spec, 'keys' | 'signedBy' | 'subject' | 'issuer'>>

function certificate(spec: FullSpec): Uint8Array {
  const publicKeyInfo = publicKeyInfoOf(spec.keys.publicKey)
  const signer = publicKeyInfoOf(spec.signedBy.publicKey)
  return makeCertificate({
    subject: spec.subject,
    publicKeyInfo,
    issuer: { subject: spec.issuer, privateKey: spec.signedBy.privateKey, publicKeyInfo: signer },
    notBefore: spec.notBefore ?? NOW.getTime() - MINUTE,
    notAfter: spec.notAfter ?? NOW.getTime() + HOUR,
    extensions: extensionsOf(spec, { publicKeyInfo, signer }),
    ...(spec.signature && { signature: spec.signature }),
  })
}

function extensionsOf(
  spec: Spec,
  { publicKeyInfo, signer }: { publicKeyInfo: Uint8Array; signer: Uint8Array },
): TestExtension[] {
  const { ca = 'none', keyUsage = 'none', names = 'none', purposes, keyIds } = spec
  return [
    ...(ca === 'none' ? [] : [extension.basicConstraints(ca, spec.pathLength)]),
    ...(keyUsage === 'none' ? [] : [extension.keyUsage(keyUsage)]),
    ...(purposes ? [extension.extendedKeyUsage(...purposes)] : []),
    ...(keyIds === 'none'
      ? []
      : [extension.subjectKeyId(keyIds === 'wrong' ? signer : publicKeyInfo)]),
    ...(keyIds === 'none'
      ? []
      : [extension.authorityKeyId(keyIds === 'wrong' ? publicKeyInfo : signer)]),
    ...(names === 'none' ? [] : [extension.subjectAltName(names, spec.namesCritical)]),
    ...(spec.extra ?? []),
  ]
}

function makeKeys(kind: KeyKind): TestKeys {
  if (kind === 'ed25519') return generateKeyPairSync('ed25519')
  if (kind === 'rsa-1024') return generateKeyPairSync('rsa', { modulusLength: 1024 })
  if (kind === 'rsa-2048') return generateKeyPairSync('rsa', { modulusLength: 2048 })
  return generateKeyPairSync('ec', { namedCurve: kind })
}

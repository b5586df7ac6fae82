import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import {
  idOfTrustDomain,
  parseCertificate,
  spiffeIdIn,
  type TrustDomain,
} from '../../spiffe/index.js'
import { SentryError } from '../errors.js'
import type { SigningAuthority } from '../signing/certificate-builder.js'
import type { JwtAlgorithm } from '../signing/signer.js'
import type { AuthorityState, JwtKey } from './state.js'

const VERSION = 1

const invalid = (message: string, options?: ErrorOptions) =>
  new SentryError('CS_AUTHORITY_FILE_INVALID', message, options)

type Fields = Readonly<Record<string, unknown>>

/** What goes into the sealed file: JSON, keys as base64 of their DER. */
export function writeState(state: AuthorityState): Uint8Array {
  const { trustDomain, root, issuer, jwtKeys } = state
  const document = {
    version: VERSION,
    trustDomain,
    root: authorityFields(root),
    issuer: authorityFields(issuer),
    jwtKeys: jwtKeys.map(jwtKeyFields),
  }
  return Buffer.from(JSON.stringify(document))
}

/**
 * Reads the file's content back and checks that its parts belong together. Throws
 * `CS_AUTHORITY_FILE_INVALID`, never with anything of the content in the message.
 */
export function readState(bytes: Uint8Array, trustDomain: TrustDomain): AuthorityState {
  const document = parsed(bytes)
  if (document['version'] !== VERSION) throw invalid('authorities are in an unknown format')
  if (document['trustDomain'] !== trustDomain) {
    throw invalid(`authorities are not those of trust domain ${trustDomain}`)
  }
  const root = readAuthority({ fields: document['root'], name: 'root', trustDomain })
  const issuer = readAuthority({ fields: document['issuer'], name: 'issuer', trustDomain })
  return { trustDomain, root, issuer, jwtKeys: readJwtKeys(document['jwtKeys']) }
}

function authorityFields({ certificate, privateKey }: SigningAuthority) {
  return { certificate: base64(certificate.der), privateKey: privateText(privateKey) }
}

function jwtKeyFields(key: JwtKey) {
  const { keyId, algorithm, notBefore, activeFrom, expiresAt, publicKey, privateKey } = key
  return {
    keyId,
    algorithm,
    notBefore,
    activeFrom,
    expiresAt,
    publicKey: base64(publicKey.export({ type: 'spki', format: 'der' })),
    ...(privateKey !== undefined && { privateKey: privateText(privateKey) }),
  }
}

function privateText(key: KeyObject): string {
  return base64(key.export({ type: 'pkcs8', format: 'der' }))
}

/** The cause is dropped: what a parser quotes of this file may be part of a key. */
function parsed(bytes: Uint8Array): Fields {
  try {
    return asFields(JSON.parse(Buffer.from(bytes).toString('utf8')))
  } catch {
    throw invalid('authorities cannot be read')
  }
}

function readAuthority(part: {
  readonly fields: unknown
  readonly name: string
  readonly trustDomain: TrustDomain
}): SigningAuthority {
  const { name, trustDomain } = part
  const fields = asFields(part.fields)
  try {
    const certificate = parseCertificate(bytesIn(fields, 'certificate'))
    const privateKey = privateKeyIn(fields)
    if (spiffeIdIn(certificate) !== idOfTrustDomain(trustDomain)) throw invalid('id differs')
    if (!createPublicKey(privateKey).equals(certificate.publicKey)) throw invalid('key differs')
    return { certificate, privateKey }
  } catch {
    throw invalid(`${name} authority is not a certificate of ${trustDomain} with its key`)
  }
}

function readJwtKeys(value: unknown): JwtKey[] {
  if (!Array.isArray(value)) throw invalid('JWT authorities are not a list')
  return value.map(readJwtKey)
}

function readJwtKey(value: unknown): JwtKey {
  const fields = asFields(value)
  try {
    const publicKey = createPublicKey({ key: bytesIn(fields, 'publicKey'), ...SPKI })
    const privateKey = fields['privateKey'] === undefined ? undefined : privateKeyIn(fields)
    if (privateKey && !createPublicKey(privateKey).equals(publicKey)) throw invalid('key differs')
    return {
      keyId: textIn(fields, 'keyId'),
      algorithm: algorithmOf(publicKey, fields),
      notBefore: numberIn(fields, 'notBefore'),
      activeFrom: numberIn(fields, 'activeFrom'),
      expiresAt: numberIn(fields, 'expiresAt'),
      publicKey,
      privateKey,
    }
  } catch {
    throw invalid('a JWT authority is not a key with an id, an algorithm and its times')
  }
}

const SPKI = { format: 'der', type: 'spki' } as const

function algorithmOf(key: KeyObject, fields: Fields): JwtAlgorithm {
  const algorithm = textIn(fields, 'algorithm')
  if (algorithm === 'ES256' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1') {
    return algorithm
  }
  if (algorithm === 'RS256' && key.asymmetricKeyType === 'rsa') return algorithm
  throw invalid('algorithm does not fit the key')
}

function privateKeyIn(fields: Fields): KeyObject {
  return createPrivateKey({ key: bytesIn(fields, 'privateKey'), format: 'der', type: 'pkcs8' })
}

function asFields(value: unknown): Fields {
  if (typeof value !== 'object' || value === null) throw invalid('authorities lack a part')
  return value as Fields
}

function textIn(fields: Fields, name: string): string {
  const value = fields[name]
  if (typeof value !== 'string' || value === '') throw invalid(`${name} is not text`)
  return value
}

function numberIn(fields: Fields, name: string): number {
  const value = fields[name]
  if (!Number.isSafeInteger(value)) throw invalid(`${name} is not a number`)
  return value as number
}

function bytesIn(fields: Fields, name: string): Buffer {
  return Buffer.from(textIn(fields, name), 'base64')
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}

import { generateKeyPair, type KeyObject } from 'node:crypto'
import { promisify } from 'node:util'
import type { Random } from '../../platform/random.js'
import type { TrustDomain } from '../../spiffe/index.js'
import { buildIssuer, buildRoot } from '../signing/ca-certificate.js'
import type { SigningAuthority } from '../signing/certificate-builder.js'
import type { JwtAlgorithm } from '../signing/signer.js'
import { BACKDATE_MS, randomSerial, wholeSecond } from '../svid-template.js'
import type { JwtKey } from './state.js'

const makeKeyPair = promisify(generateKeyPair)
const KEY_ID_OCTETS = 16
const RSA_BITS = 2048

export interface MakeOptions {
  readonly trustDomain: TrustDomain
  readonly random: Pick<Random, 'bytes'>
  readonly now: number
  readonly ttl: number
}

export async function makeRoot(options: MakeOptions): Promise<SigningAuthority> {
  const { privateKey, publicKey } = await makeEcKey()
  const fields = caFields(options, publicKey)
  return { certificate: await buildRoot(fields, privateKey), privateKey }
}

/** Ends with its root, if that is sooner. */
export async function makeIssuer(
  options: MakeOptions,
  root: SigningAuthority,
): Promise<SigningAuthority> {
  const { privateKey, publicKey } = await makeEcKey()
  const fields = caFields(options, publicKey)
  const notAfter = Math.min(fields.notAfter, root.certificate.notAfter)
  return { certificate: await buildIssuer({ ...fields, notAfter }, root), privateKey }
}

/** RSA takes a tenth of a second or more, in the thread pool. */
export async function makeJwtKey(
  options: Omit<MakeOptions, 'trustDomain'> & {
    readonly algorithm: JwtAlgorithm
    readonly activeFrom: number
  },
): Promise<JwtKey & { readonly privateKey: KeyObject }> {
  const { algorithm, random, now, ttl, activeFrom } = options
  const { privateKey, publicKey } = await (algorithm === 'RS256' ? makeRsaKey() : makeEcKey())
  return {
    keyId: Buffer.from(random.bytes(KEY_ID_OCTETS)).toString('hex'),
    algorithm,
    notBefore: wholeSecond(now - BACKDATE_MS),
    activeFrom,
    expiresAt: wholeSecond(now) + ttl * 1000,
    publicKey,
    privateKey,
  }
}

function makeEcKey() {
  return makeKeyPair('ec', { namedCurve: 'P-256' })
}

function makeRsaKey() {
  return makeKeyPair('rsa', { modulusLength: RSA_BITS })
}

function caFields({ trustDomain, random, now, ttl }: MakeOptions, publicKey: KeyObject) {
  return {
    trustDomain,
    serialNumber: randomSerial(random),
    notBefore: wholeSecond(now - BACKDATE_MS),
    notAfter: wholeSecond(now) + ttl * 1000,
    publicKeyInfo: new Uint8Array(publicKey.export({ type: 'spki', format: 'der' })),
  }
}

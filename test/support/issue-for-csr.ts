import { createPublicKey, verify } from 'node:crypto'
import type { JWTSVID, X509SVID } from '../../proto/gen/spire/api/types/types.js'
import {
  bytesOf,
  readBitStringOctets,
  readElement,
  sequenceItems,
} from '../../spiffe/asn1/index.js'
import { parseCertificate, pathOf, type SpiffeId, trustDomainOf } from '../../spiffe/index.js'
import { signJwt, type TestAuthority } from './authority.js'
import { extension, makeCertificate, name } from './certificate.js'

const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'

/** What a sentry does with a request: an SVID in the form of its API, and the serial number in hex. */
export function issueForCsr(
  { issuer: { issuer, certificate } }: TestAuthority,
  options: {
    readonly csr: Uint8Array
    readonly id: SpiffeId
    readonly now: number
    readonly ttlMs?: number | undefined
    readonly dnsNames?: readonly string[]
  },
): { readonly svid: X509SVID; readonly serial: string } {
  const { csr, id, now, ttlMs = 3_600_000, dnsNames = [] } = options
  const publicKeyInfo = provenKey(csr)
  const leaf = makeCertificate({
    subject: name(),
    publicKeyInfo,
    issuer,
    notBefore: now - 10_000,
    notAfter: now + ttlMs,
    extensions: [
      extension.basicConstraints(false),
      extension.keyUsage(1),
      extension.extendedKeyUsage(SERVER_AUTH, CLIENT_AUTH),
      extension.subjectKeyId(publicKeyInfo),
      extension.authorityKeyId(issuer.publicKeyInfo),
      extension.subjectAltName({ uris: [id], dns: dnsNames }, true),
    ],
  })
  return {
    serial: parseCertificate(leaf).serialNumber,
    svid: {
      certChain: [leaf, certificate.der],
      id: { trustDomain: trustDomainOf(id), path: pathOf(id) },
      expiresAt: BigInt(Math.floor((now + ttlMs) / 1000)),
      hint: '',
    },
  }
}

/** A token in the form of a sentry's API. */
export function issueToken(
  { jwtKey }: TestAuthority,
  options: {
    readonly id: SpiffeId
    readonly audience: readonly string[]
    readonly now: number
    readonly ttlSeconds?: number | undefined
    readonly jti: string
  },
): JWTSVID {
  const { id, audience, now, ttlSeconds = 300, jti } = options
  const issuedAt = Math.floor(now / 1000)
  const expiresAt = issuedAt + ttlSeconds
  const token = signJwt({
    header: { alg: 'ES256', kid: jwtKey.keyId, typ: 'JWT' },
    claims: { sub: id, aud: audience, iat: issuedAt, exp: expiresAt, jti },
    key: jwtKey.privateKey,
  })
  return {
    token,
    id: { trustDomain: trustDomainOf(id), path: pathOf(id) },
    issuedAt: BigInt(issuedAt),
    expiresAt: BigInt(expiresAt),
    hint: '',
  }
}

/** The key of a request that is signed by it. */
function provenKey(csr: Uint8Array): Uint8Array {
  const [info, , signature] = sequenceItems(readElement(csr))
  const [, , publicKeyInfo] = sequenceItems(info)
  if (!info || !publicKeyInfo) throw new Error('request is malformed')
  const key = createPublicKey({
    key: Buffer.from(bytesOf(publicKeyInfo)),
    format: 'der',
    type: 'spki',
  })
  if (!verify('sha256', bytesOf(info), key, readBitStringOctets(signature))) {
    throw new Error('request is not signed by its key')
  }
  return bytesOf(publicKeyInfo)
}

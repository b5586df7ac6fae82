import { constants, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import {
  type Certificate,
  idOfTrustDomain,
  makeSpiffeId,
  parseCertificate,
  parseSpiffeId,
  parseTrustDomain,
  parseX509Svid,
  type SpiffeId,
  type TrustBundle,
  type TrustDomain,
  type X509Svid,
} from '../../spiffe/index.js'
import {
  extension,
  issuerFrom,
  makeCertificate,
  name,
  pkcs8Of,
  publicKeyInfoOf,
  type TestExtension,
  type TestIssuer,
} from './certificate.js'

const DAY_MS = 86_400_000
const HOUR_MS = 3_600_000
const BACKDATE_MS = 10_000

const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'

export interface TestAuthorityOptions {
  /** What "now" is for everything made without explicit times; a fixed moment or a function. Real time if absent. */
  readonly now?: Date | (() => Date)
  /** Also holds an RS256 JWT key (`jwt-rs256`), which takes a tenth of a second to make. */
  readonly rsaJwt?: boolean
}

export interface TestX509Request {
  readonly id: SpiffeId | string
  readonly dnsNames?: readonly string[]
  readonly ipNames?: readonly Uint8Array[]
  readonly ttlMs?: number
  readonly notBefore?: Date
  readonly notAfter?: Date
  readonly hint?: string
  /** A key of one's own instead of a fresh P-256 one. */
  readonly keys?: { readonly privateKey: KeyObject; readonly publicKey: KeyObject }
  readonly extraExtensions?: readonly TestExtension[]
}

export interface TestJwtRequest {
  readonly id: SpiffeId | string
  readonly audience: string | readonly string[]
  /** Seconds; five minutes if absent. Negative for a token that is past its time. */
  readonly ttl?: number
  readonly issuedAt?: Date
  readonly algorithm?: 'ES256' | 'RS256' | 'PS256'
  readonly claims?: Readonly<Record<string, unknown>>
  readonly header?: Readonly<Record<string, unknown>>
}

/** A certification authority: a certificate and the key to sign with. */
export interface TestCa {
  readonly certificate: Certificate
  readonly issuer: TestIssuer
}

/** A real two-tier authority of one trust domain: what it issues verifies, and nothing in it is shared. */
export interface TestAuthority {
  readonly trustDomain: TrustDomain
  readonly bundle: TrustBundle
  readonly root: TestCa
  /** The intermediate that signs leaves. */
  readonly issuer: TestCa
  readonly jwtKey: { readonly keyId: string; readonly privateKey: KeyObject }
  issueX509(request: TestX509Request): X509Svid
  issueJwt(request: TestJwtRequest): string
}

/** Makes an authority with fresh keys. A path such as `/api` is enough of an ID for what it issues. */
export function testAuthority(domain: string, options: TestAuthorityOptions = {}): TestAuthority {
  const trustDomain = parseTrustDomain(domain)
  const now = () => momentOf(options.now).getTime()
  const root = makeRoot(trustDomain, now())
  const issuer = makeIntermediate({ trustDomain, parent: root, now: now() })
  const jwtKeys = makeJwtKeys(options.rsaJwt ?? false)
  const idOf = (id: string) =>
    id.startsWith('/') ? makeSpiffeId(trustDomain, id) : parseSpiffeId(id)

  return {
    trustDomain,
    root,
    issuer,
    jwtKey: { keyId: ES256_KEY, privateKey: jwtKeys.ES256.privateKey },
    bundle: {
      trustDomain,
      x509Authorities: [root.certificate],
      jwtAuthorities: new Map(
        Object.values(jwtKeys).map(({ keyId, publicKey }) => [keyId, { keyId, publicKey }]),
      ),
      sequence: 1n,
      refreshHint: 300,
    },
    issueX509: (request) => issueX509({ ...request, id: idOf(request.id) }, issuer, now()),
    issueJwt(request) {
      const algorithm = request.algorithm ?? 'ES256'
      const key = algorithm === 'ES256' ? jwtKeys.ES256 : jwtKeys.RSA
      if (!key) throw new Error('this authority was made without rsaJwt')
      const issuedAt = Math.floor((request.issuedAt?.getTime() ?? now()) / 1000)
      const audience = typeof request.audience === 'string' ? [request.audience] : request.audience
      return signJwt({
        header: { alg: algorithm, kid: key.keyId, typ: 'JWT', ...request.header },
        claims: {
          sub: idOf(request.id),
          aud: audience,
          exp: issuedAt + (request.ttl ?? 300),
          iat: issuedAt,
          ...request.claims,
        },
        key: key.privateKey,
      })
    },
  }
}

/** A self-signed root as the profile wants it. */
export function makeRoot(trustDomain: TrustDomain, now: number): TestCa {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const issuer = issuerFrom(privateKey, publicKey, name(`${trustDomain} root`))
  return {
    issuer,
    certificate: makeCa({ trustDomain, issuer, signedBy: issuer, now, lifeMs: 365 * DAY_MS }),
  }
}

/** An intermediate under a root, or under another intermediate. */
export function makeIntermediate(options: {
  readonly trustDomain: TrustDomain
  readonly parent: TestCa
  readonly now: number
}): TestCa {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const issuer = issuerFrom(privateKey, publicKey, name(`${options.trustDomain} issuer`))
  const signedBy = options.parent.issuer
  return { issuer, certificate: makeCa({ ...options, issuer, signedBy, lifeMs: 7 * DAY_MS }) }
}

/** A certificate for the key of `issuer`, signed by `signedBy`: itself, a parent, or a cross-signer. */
export function makeCa(options: {
  readonly trustDomain: TrustDomain
  readonly issuer: TestIssuer
  readonly signedBy: TestIssuer
  readonly now: number
  readonly lifeMs: number
}): Certificate {
  const { trustDomain, issuer, signedBy, now } = options
  return parseCertificate(
    makeCertificate({
      subject: issuer.subject,
      publicKeyInfo: issuer.publicKeyInfo,
      issuer: signedBy,
      notBefore: now - BACKDATE_MS,
      notAfter: now + options.lifeMs,
      extensions: [
        extension.basicConstraints(true),
        extension.keyUsage((1 << 5) | (1 << 6)),
        extension.subjectKeyId(issuer.publicKeyInfo),
        extension.authorityKeyId(signedBy.publicKeyInfo),
        extension.subjectAltName({ uris: [idOfTrustDomain(trustDomain)] }),
      ],
    }),
  )
}

function issueX509(request: TestX509Request, issuer: TestCa, now: number): X509Svid {
  const keys = request.keys ?? generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const publicKeyInfo = publicKeyInfoOf(keys.publicKey)
  const names = { uris: [request.id], dns: request.dnsNames ?? [], ips: request.ipNames ?? [] }
  const leaf = makeCertificate({
    subject: name(),
    publicKeyInfo,
    issuer: issuer.issuer,
    notBefore: request.notBefore?.getTime() ?? now - BACKDATE_MS,
    notAfter: request.notAfter?.getTime() ?? now + (request.ttlMs ?? HOUR_MS),
    extensions: [
      extension.basicConstraints(false),
      extension.keyUsage(1),
      extension.extendedKeyUsage(SERVER_AUTH, CLIENT_AUTH),
      extension.subjectKeyId(publicKeyInfo),
      extension.authorityKeyId(issuer.issuer.publicKeyInfo),
      extension.subjectAltName(names, true),
      ...(request.extraExtensions ?? []),
    ],
  })
  return parseX509Svid({
    chain: [leaf, issuer.certificate.der],
    privateKeyDer: pkcs8Of(keys.privateKey),
    ...(request.hint ? { hint: request.hint } : {}),
  })
}

const ES256_KEY = 'jwt-es256'
const RSA_KEY = 'jwt-rs256'

interface TestJwtKey {
  readonly keyId: string
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
}

function makeJwtKeys(withRsa: boolean): { readonly ES256: TestJwtKey; readonly RSA?: TestJwtKey } {
  const ES256 = { keyId: ES256_KEY, ...generateKeyPairSync('ec', { namedCurve: 'P-256' }) }
  if (!withRsa) return { ES256 }
  return { ES256, RSA: { keyId: RSA_KEY, ...generateKeyPairSync('rsa', { modulusLength: 2048 }) } }
}

/** Signs whatever it is given; `alg` in the header chooses how. */
export function signJwt(options: {
  readonly header: Readonly<Record<string, unknown>>
  readonly claims: unknown
  readonly key: KeyObject
}): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const input = `${part(options.header)}.${part(options.claims)}`
  const algorithm = String(options.header['alg'])
  const hash = `sha${algorithm.slice(2)}`
  const signature = sign(hash, Buffer.from(input), {
    key: options.key,
    dsaEncoding: 'ieee-p1363',
    ...(algorithm.startsWith('PS') && {
      padding: constants.RSA_PKCS1_PSS_PADDING,
      saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
    }),
  })
  return `${input}.${signature.toString('base64url')}`
}

function momentOf(now: TestAuthorityOptions['now']): Date {
  if (now instanceof Date) return now
  return now?.() ?? new Date()
}

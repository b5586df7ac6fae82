import type { Clock } from '../platform/clock.js'
import type { Random } from '../platform/random.js'
import {
  parseCertificate,
  type SpiffeId,
  type TrustDomain,
  type X509Svid,
} from '../spiffe/index.js'
import type { AuditDetail, AuditSink } from './audit/event.js'
import type { Authorities } from './authorities/authorities.js'
import { assertTokenSaysWhatWasAsked } from './checks/issued-check.js'
import { type ResultCheck, resultCheck } from './checks/result-check.js'
import { makeProvenKey, type ProvenKey } from './csr.js'
import { SentryError } from './errors.js'
import { parseIpAddress } from './ip-address.js'
import { pooledRandom } from './random-pool.js'
import { emptySubject, type SubjectName } from './subject-name.js'
import { buildSvidTemplate, randomSerial, serialText } from './svid-template.js'
import { buildTokenTemplate } from './token-template.js'

export interface IssueOptions {
  readonly trustDomain: TrustDomain
  readonly authorities: Pick<Authorities, 'x509Signer' | 'jwtSigner' | 'longestJwtSvid'>
  readonly clock: Pick<Clock, 'now'>
  readonly random: Pick<Random, 'bytes'>
  readonly audit: AuditSink
  /** Subject of every X509-SVID; empty unless given. */
  readonly subject?: SubjectName
  /** The `iss` of every token, for relying parties that discover keys by it. */
  readonly jwtIssuer?: string
  /** Audiences whose tokens are signed with RS256. Every other gets ES256. */
  readonly rs256Audiences?: readonly string[]
}

/** Who asked, for the record: a SPIFFE ID, or `local` for the sentry and its admin socket. */
interface Asked {
  readonly requester: string
  readonly entryId?: string
}

export interface X509Request extends Asked {
  readonly key: ProvenKey
  readonly id: SpiffeId
  readonly dnsNames: readonly string[]
  readonly ipAddresses?: readonly string[]
  /** Cut down to what the issuer has left. */
  readonly ttlSeconds: number
  readonly subject?: SubjectName
}

export interface IssuedX509 {
  /** DER: the leaf, then the issuer. */
  readonly chain: readonly [Uint8Array, ...Uint8Array[]]
  readonly id: SpiffeId
  /** Lower-case hex without leading zeros. */
  readonly serialNumber: string
  /** Milliseconds since 1970. */
  readonly notAfter: number
}

export interface JwtRequest extends Asked {
  readonly id: SpiffeId
  readonly audience: readonly string[]
  /** Cut down to what the key has left and to the longest life of a token. */
  readonly ttlSeconds: number
  /** Random unless given. */
  readonly jti?: string
}

export interface IssuedJwt {
  readonly token: string
  readonly id: SpiffeId
  /** Milliseconds since 1970. */
  readonly issuedAt: number
  readonly expiresAt: number
  readonly keyId: string
}

export interface OwnIdentityRequest {
  readonly id: SpiffeId
  readonly ttlSeconds: number
  readonly dnsNames?: readonly string[]
  readonly ipAddresses?: readonly string[]
}

/**
 * The only way to an SVID. All of it throws `CS_ISSUE_REQUEST_INVALID`, `CS_AUTHORITY_NOT_VALID` or
 * `CS_ISSUE_CHECK_FAILED`, and leaves a record of what it issued or refused.
 */
export interface IssuePipeline {
  x509(request: X509Request): IssuedX509
  jwt(request: JwtRequest): IssuedJwt
  /** An SVID of the sentry itself, with a fresh key. */
  signingIdentity(request: OwnIdentityRequest): X509Svid
}

/** Relying parties that refuse ES256: AWS and Entra. */
export const rs256AudiencesByDefault: readonly string[] = [
  'sts.amazonaws.com',
  'api://AzureADTokenExchange',
]

const TOKEN_ID_OCTETS = 16
/** The requester of what the sentry makes for itself. */
const OWN = 'local'

/** Settle, sign, check, record. */
export function issuePipeline(options: IssueOptions): IssuePipeline {
  const steps: Steps = {
    ...options,
    random: pooledRandom(options.random),
    check: resultCheck(),
    rs256: new Set(options.rs256Audiences ?? rs256AudiencesByDefault),
  }
  const x509 = (request: X509Request) =>
    recorded({ steps, kind: 'x509', request }, () => issueX509(steps, request))
  return {
    x509,
    jwt: (request) => recorded({ steps, kind: 'jwt', request }, () => issueJwt(steps, request)),
    signingIdentity(own) {
      const { key, privateKey } = makeProvenKey()
      const { chain } = x509({ dnsNames: [], ...own, key, requester: OWN })
      const [leaf, ...intermediates] = chain
      return {
        id: own.id,
        chain: [parseCertificate(leaf), ...intermediates.map(parseCertificate)],
        privateKey,
      }
    },
  }
}

interface Steps extends IssueOptions {
  readonly check: ResultCheck
  readonly rs256: ReadonlySet<string>
}

interface Outcome<Issued> {
  readonly issued: Issued
  readonly details: Readonly<Record<string, AuditDetail>>
}

function issueX509(steps: Steps, request: X509Request): Outcome<IssuedX509> {
  const { authorities, clock, random, trustDomain, check } = steps
  const { id, key, dnsNames, ttlSeconds } = request
  const signer = authorities.x509Signer()
  const template = buildSvidTemplate({
    trustDomain,
    authority: signer.issuer,
    now: clock.now(),
    id,
    key,
    serialNumber: randomSerial(random),
    ttlSeconds,
    dnsNames,
    ipAddresses: request.ipAddresses?.map(parseIpAddress) ?? [],
    subject: request.subject ?? steps.subject ?? emptySubject,
  })
  const chain = signer.sign(template)
  check(chain, { template, signer })
  const { notAfter } = template
  const serialNumber = serialText(template.serialNumber)
  return {
    issued: { chain, id, serialNumber, notAfter },
    details: {
      kind: 'x509',
      serialNumber,
      notAfter,
      authority: signer.issuer.subjectKeyId ?? '',
      ...(dnsNames.length > 0 && { dnsNames }),
      ...entryOf(request),
    },
  }
}

function issueJwt(steps: Steps, request: JwtRequest): Outcome<IssuedJwt> {
  const { authorities, clock, random, trustDomain, jwtIssuer, rs256 } = steps
  const { id, audience } = request
  const algorithm = audience.some((name) => rs256.has(name)) ? 'RS256' : 'ES256'
  const signer = authorities.jwtSigner(algorithm)
  const template = buildTokenTemplate({
    trustDomain,
    keyExpiresAt: signer.expiresAt,
    now: clock.now(),
    subject: id,
    audience,
    ttlSeconds: Math.min(request.ttlSeconds, authorities.longestJwtSvid),
    tokenId: request.jti ?? base64url(random.bytes(TOKEN_ID_OCTETS)),
    issuer: jwtIssuer,
  })
  const token = signer.sign(template)
  assertTokenSaysWhatWasAsked(token, { template, signer })
  const issuedAt = template.issuedAt * 1000
  const expiresAt = template.expiresAt * 1000
  const { keyId } = signer
  return {
    issued: { token, id, issuedAt, expiresAt, keyId },
    details: {
      kind: 'jwt',
      jti: template.tokenId,
      audience,
      expiresAt,
      keyId,
      ...entryOf(request),
    },
  }
}

/** Every answer leaves a record, and so does every refusal, with its code. */
function recorded<Issued>(
  asked: {
    readonly steps: Steps
    readonly kind: 'x509' | 'jwt'
    readonly request: Asked & { readonly id: SpiffeId }
  },
  issue: () => Outcome<Issued>,
): Issued {
  const { steps, kind, request } = asked
  const { id: subject, requester } = request
  try {
    const { issued, details } = issue()
    steps.audit.record({ type: 'svid.issued.v1', subject, requester, details })
    return issued
  } catch (error) {
    const code = error instanceof SentryError ? error.code : 'CS_ISSUE_CHECK_FAILED'
    const details = { kind, ...entryOf(request) }
    steps.audit.record({ type: 'svid.denied.v1', subject, requester, code, details })
    throw error
  }
}

function entryOf({ entryId }: Asked): { readonly entryId?: string } {
  return entryId === undefined ? {} : { entryId }
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64url')
}

import { isMemberOf, parseWorkloadId, type SpiffeId, type TrustDomain } from '../spiffe/index.js'
import type { ProvenKey } from './csr.js'
import { assertDnsNames } from './dns-name.js'
import { SentryError } from './errors.js'
import type { SubjectName } from './subject-name.js'

/** All that an X509-SVID will say, but for what its issuer says in every certificate. */
export interface SvidTemplate {
  readonly id: SpiffeId
  readonly key: ProvenKey
  /** Positive, big-endian, in its shortest form without a sign octet. */
  readonly serialNumber: Uint8Array
  /** Milliseconds since 1970, at a whole second. */
  readonly notBefore: number
  readonly notAfter: number
  readonly dnsNames: readonly string[]
  /** 4 or 16 bytes each. */
  readonly ipAddresses: readonly Uint8Array[]
  readonly subject: SubjectName
}

/** When the authority that will sign is valid; milliseconds since 1970. */
export interface Validity {
  readonly notBefore: number
  readonly notAfter: number
}

export interface SvidRequest {
  readonly trustDomain: TrustDomain
  readonly authority: Validity
  readonly now: Date
  readonly id: SpiffeId
  readonly key: ProvenKey
  readonly serialNumber: Uint8Array
  readonly ttlSeconds: number
  readonly dnsNames: readonly string[]
  readonly ipAddresses: readonly Uint8Array[]
  readonly subject: SubjectName
}

/** How far `notBefore` is set back, so that a verifier with a slow clock accepts a new SVID. */
export const BACKDATE_MS = 10_000

/** A certificate's serial number: 1 to 2^128-1. */
const SERIAL_OCTETS = 16

const invalid = (message: string, options?: ErrorOptions) =>
  new SentryError('CS_ISSUE_REQUEST_INVALID', message, options)

/** Settles what the SVID will say. Throws `CS_ISSUE_REQUEST_INVALID`. */
export function buildSvidTemplate(request: SvidRequest): SvidTemplate {
  const { id, key, serialNumber, dnsNames, ipAddresses, subject, authority } = request
  assertOwnWorkload(id, request.trustDomain)
  assertDnsNames(dnsNames)
  assertTtl(request.ttlSeconds)

  const now = request.now.getTime()
  const notBefore = Math.max(wholeSecond(now - BACKDATE_MS), authority.notBefore)
  // Nothing outlives its issuer (design, decision 1): the last SVIDs of an issuer are shorter.
  const notAfter = Math.min(wholeSecond(now) + request.ttlSeconds * 1000, authority.notAfter)
  return { id, key, serialNumber, notBefore, notAfter, dnsNames, ipAddresses, subject }
}

/** A random serial number in the form that {@link SvidTemplate} wants. */
export function randomSerial(random: { bytes(length: number): Uint8Array }): Uint8Array {
  for (;;) {
    const octets = random.bytes(SERIAL_OCTETS)
    const start = octets.findIndex((octet) => octet !== 0)
    if (start !== -1) return octets.subarray(start)
  }
}

/** Lower-case hex without leading zeros, as certificates are told apart everywhere. */
export function serialText(serialNumber: Uint8Array): string {
  const { buffer, byteOffset, length } = serialNumber
  const digits = Buffer.from(buffer, byteOffset, length).toString('hex')
  return digits.startsWith('0') ? digits.slice(1) : digits
}

/**
 * An authority speaks for workloads of its own trust domain alone (SPIFFE-ID §4.1.2), and a workload
 * has a path. Throws `CS_ISSUE_REQUEST_INVALID`.
 */
export function assertOwnWorkload(id: SpiffeId, trustDomain: TrustDomain): void {
  try {
    parseWorkloadId(id)
  } catch (error) {
    throw invalid(error instanceof Error ? error.message : 'id is invalid', { cause: error })
  }
  if (!isMemberOf(id, trustDomain)) throw invalid(`id is not in trust domain ${trustDomain}`)
}

export function assertTtl(ttlSeconds: number): void {
  if (!Number.isSafeInteger(ttlSeconds) || ttlSeconds < 1) {
    throw invalid('lifetime is not a whole number of seconds above zero')
  }
}

export function wholeSecond(milliseconds: number): number {
  return Math.floor(milliseconds / 1000) * 1000
}

import {
  isMemberOf,
  parseSpiffeId,
  pathOf,
  type SpiffeId,
  type TrustDomain,
} from '../../spiffe/index.js'
import { assertDnsNames } from '../dns-name.js'
import { SentryError } from '../errors.js'
import type { RegistrationEntry } from './entry.js'
import { assertSelectors, selectorText } from './selector.js'

const MAX_HINT_BYTES = 1024
const MAX_ENTRY_ID_LENGTH = 255
const ENTRY_ID = /^[A-Za-z0-9._-]+$/
const MAX_TTL = 2 ** 31 - 1
const MAX_SELECTORS = 1000

/** SPIRE keeps this part of every trust domain for itself: agents, the server, the policy signer. */
const RESERVED = '/spire'

const invalid = (message: string, options?: ErrorOptions) =>
  new SentryError('CS_ENTRY_INVALID', message, options)
const badId = (message: string, options?: ErrorOptions) =>
  new SentryError('CS_REQUEST_INVALID', message, options)

/** An ID in this trust domain with a path. Throws `CS_REQUEST_INVALID`. */
export function memberId(text: string, trustDomain: TrustDomain): SpiffeId {
  const id = parsedId(text)
  if (!isMemberOf(id, trustDomain)) {
    throw badId(`"${id}" is not a member of trust domain "${trustDomain}"`)
  }
  if (pathOf(id) === '') throw badId(`"${id}" does not have a path`)
  return id
}

/** A member's ID that is not reserved. Throws `CS_REQUEST_INVALID`. */
export function workloadId(text: string, trustDomain: TrustDomain): SpiffeId {
  const id = memberId(text, trustDomain)
  const path = pathOf(id)
  if (path === RESERVED || path.startsWith(`${RESERVED}/`)) {
    throw badId(`"${id}" is not a workload: its path is in the reserved "${RESERVED}" namespace`)
  }
  return id
}

/** An ID under `/spire/agent/`. Throws `CS_REQUEST_INVALID`. */
export function agentId(text: string, trustDomain: TrustDomain): SpiffeId {
  const id = memberId(text, trustDomain)
  if (!pathOf(id).startsWith(`${RESERVED}/agent/`)) {
    throw badId(`"${id}" is not an agent: its path is not in the "${RESERVED}/agent" namespace`)
  }
  return id
}

/** What may stand in the single fields. Throws `CS_ENTRY_INVALID`. */
export function assertEntryContent({ selectors, dnsNames, hint }: RegistrationEntry): void {
  if (selectors.length === 0) throw invalid('selector list is empty')
  if (selectors.length > MAX_SELECTORS) throw invalid(`more than ${MAX_SELECTORS} selectors`)
  assertSelectors(selectors)
  if (Buffer.byteLength(hint) > MAX_HINT_BYTES) {
    throw invalid(`hint is too long, max length is ${MAX_HINT_BYTES} characters`)
  }
  try {
    // The rule of issuing: an entry that could never be signed is refused here.
    assertDnsNames([...new Set(dnsNames)])
  } catch (error) {
    throw invalid(`invalid DNS name: ${messageOf(error)}`, { cause: error })
  }
}

/** All that an entry must be. Throws `CS_ENTRY_INVALID`, `CS_ENTRY_EXISTS`. */
export function assertEntry(entry: RegistrationEntry): void {
  assertEntryContent(entry)
  assertEntryId(entry.id)
  for (const ttl of [entry.x509SvidTtl, entry.jwtSvidTtl]) {
    if (!Number.isInteger(ttl) || ttl < 0 || ttl > MAX_TTL) throw invalid('TTL is negative')
  }
  if (entry.expiresAt < 0n) throw invalid('expiry is negative')
  if (entry.storeSvid) assertStorable(entry)
  assertNoRepetition('selector', entry.selectors.map(selectorText))
  assertNoRepetition('DNS name', entry.dnsNames)
}

function assertEntryId(id: string): void {
  if (id.length > MAX_ENTRY_ID_LENGTH) {
    throw invalid(`entry ID is longer than ${MAX_ENTRY_ID_LENGTH} characters`)
  }
  if (!ENTRY_ID.test(id)) throw invalid('entry ID contains invalid characters')
}

/** SPIRE calls it a conflict, as the unique index of its store does. */
function assertNoRepetition(what: string, texts: readonly string[]): void {
  if (new Set(texts).size < texts.length) {
    throw new SentryError('CS_ENTRY_EXISTS', `a ${what} is given twice`)
  }
}

function assertStorable({ selectors, attributes }: RegistrationEntry): void {
  if (new Set(selectors.map(({ type }) => type)).size > 1) {
    throw invalid('selector types must be the same when store SVID is enabled')
  }
  if (attributes?.disableX509SvidPrefetch) {
    throw invalid('X509-SVID prefetch cannot be disabled when store SVID is enabled')
  }
}

function parsedId(text: string): SpiffeId {
  try {
    return parseSpiffeId(text)
  } catch (error) {
    throw badId(messageOf(error), { cause: error })
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

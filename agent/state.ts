import { SignedSnapshot } from '../proto/gen/countersign/policy/v1/policy.js'
import { Bundle, Entry } from '../proto/gen/spire/api/types/types.js'
import {
  parseTrustDomain,
  parseX509Svid,
  pathOf,
  type TrustDomain,
  trustDomainOf,
  type X509Svid,
} from '../spiffe/index.js'
import { AgentError } from './errors.js'
import type { Held, HeldBundle, HeldSvid } from './identities/held.js'
import type { HeldEntry } from './identities/identities.js'
import { expiryOf } from './identities/renewal.js'
import type { OwnIdentity } from './sentry/own-identity.js'
import { readBundle, readEntry } from './sentry/wire.js'

/** What outlives a restart of the agent. */
export interface AgentState {
  readonly trustDomain: TrustDomain
  readonly own: OwnIdentity | undefined
  readonly banned: boolean
  /** Hashes of the evidence that has been shown, so that it is not shown twice. */
  readonly spentEvidence: readonly string[]
  readonly held: Held
}

const FORMAT = 'countersign agent state'
const VERSION = 1

/** To be sealed: the bytes hold private keys. */
export function writeState({
  trustDomain,
  own,
  banned,
  spentEvidence,
  held,
}: AgentState): Uint8Array {
  const document = {
    format: FORMAT,
    version: VERSION,
    trustDomain,
    own: own && { ...writeSvid(own), renewAt: own.renewAt },
    banned,
    spentEvidence,
    entries: held.entries.map((entry) => base64(Entry.encode(wireEntry(entry)).finish())),
    bundles: [...held.bundles.values()].map((bundle) =>
      base64(Bundle.encode(wireBundle(bundle)).finish()),
    ),
    snapshots: [...held.snapshots.values()].map((snapshot) =>
      base64(SignedSnapshot.encode(snapshot).finish()),
    ),
    svids: [...held.svids].map(([entry, svid]) => ({
      entry,
      ...writeSvid(svid),
      hint: svid.svid.hint,
      revision: String(svid.revision),
      createdAt: String(svid.createdAt),
      renewAt: svid.renewAt,
    })),
  }
  return Buffer.from(JSON.stringify(document))
}

/** Throws `CS_STATE_UNREADABLE`, or `CS_STATE_FOREIGN` for the state of another trust domain. */
export function readState(bytes: Uint8Array, trustDomain: TrustDomain): AgentState {
  const document = reading(() => objectIn(JSON.parse(Buffer.from(bytes).toString('utf8'))))
  if (document['format'] !== FORMAT) throw unreadable('it is not the state of an agent')
  if (document['version'] !== VERSION) {
    throw unreadable(`its version is ${String(document['version'])}, this agent reads ${VERSION}`)
  }
  return reading(() => {
    const found = parseTrustDomain(textIn(document['trustDomain']))
    if (found !== trustDomain) throw foreign(found, trustDomain)
    return {
      trustDomain,
      own: document['own'] === undefined ? undefined : readOwn(objectIn(document['own'])),
      banned: document['banned'] === true,
      spentEvidence: listIn(document['spentEvidence']).map(textIn),
      held: readHeld(document, trustDomain),
    }
  })
}

function readHeld(document: Fields, trustDomain: TrustDomain): Held {
  const entries = messagesIn(document['entries'], Entry).map((entry) =>
    readEntry(entry, trustDomain),
  )
  const bundles = messagesIn(document['bundles'], Bundle).map(readBundle)
  const snapshots = messagesIn(document['snapshots'], SignedSnapshot)
  return {
    sequence: 0n,
    entries,
    bundles: new Map(bundles.map((held) => [held.bundle.trustDomain, held])),
    svids: new Map(listIn(document['svids']).map((fields) => readHeldSvid(objectIn(fields)))),
    snapshots: new Map(snapshots.map((snapshot) => [snapshot.target, snapshot])),
  }
}

interface SealedSvid {
  readonly svid: X509Svid
  readonly privateKeyDer: Uint8Array
}

function writeSvid({ svid, privateKeyDer }: SealedSvid): object {
  return { chain: svid.chain.map(({ der }) => base64(der)), privateKey: base64(privateKeyDer) }
}

function readSvid(fields: Fields): SealedSvid {
  const chain = listIn(fields['chain']).map(bytesIn)
  const privateKeyDer = bytesIn(fields['privateKey'])
  const hint = fields['hint'] === undefined ? undefined : textIn(fields['hint'])
  const svid = parseX509Svid({ chain, privateKeyDer, ...(hint !== undefined && { hint }) })
  return { svid, privateKeyDer }
}

function readOwn(fields: Fields): OwnIdentity {
  return { ...readSvid(fields), renewAt: numberIn(fields['renewAt']) }
}

function readHeldSvid(fields: Fields): [string, HeldSvid] {
  const sealed = readSvid(fields)
  const held = {
    ...sealed,
    revision: BigInt(textIn(fields['revision'])),
    createdAt: BigInt(textIn(fields['createdAt'])),
    renewAt: numberIn(fields['renewAt']),
    expiresAt: expiryOf(sealed.svid),
  }
  return [textIn(fields['entry']), held]
}

function wireEntry(entry: HeldEntry): Entry {
  const { id, selectors, federatesWith, hint, admin, downstream, revision, createdAt } = entry
  return Entry.fromPartial({
    id,
    hint,
    admin,
    downstream,
    createdAt,
    selectors: [...selectors],
    federatesWith: [...federatesWith],
    spiffeId: { trustDomain: trustDomainOf(entry.spiffeId), path: pathOf(entry.spiffeId) },
    revisionNumber: revision,
    ...(entry.onDemand && { additionalAttributes: { disableX509SvidPrefetch: true } }),
  })
}

function wireBundle({ bundle, taintedX509, taintedJwt }: HeldBundle): Bundle {
  return Bundle.fromPartial({
    trustDomain: bundle.trustDomain,
    x509Authorities: bundle.x509Authorities.map(({ der, fingerprint }) => ({
      asn1: der,
      tainted: taintedX509.has(fingerprint),
    })),
    jwtAuthorities: [...bundle.jwtAuthorities.values()].map(({ keyId, publicKey }) => ({
      keyId,
      publicKey: publicKey.export({ format: 'der', type: 'spki' }),
      tainted: taintedJwt.has(keyId),
    })),
    refreshHint: BigInt(bundle.refreshHint ?? 0),
    sequenceNumber: bundle.sequence ?? 0n,
  })
}

type Fields = Readonly<Record<string, unknown>>

function objectIn(value: unknown): Fields {
  if (typeof value !== 'object' || value === null) throw unreadable('a part of it is missing')
  return value as Fields
}

function listIn(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw unreadable('a list in it is missing')
  return value
}

function textIn(value: unknown): string {
  if (typeof value !== 'string') throw unreadable('a text in it is missing')
  return value
}

function numberIn(value: unknown): number {
  if (typeof value !== 'number') throw unreadable('a number in it is missing')
  return value
}

function bytesIn(value: unknown): Uint8Array {
  return Buffer.from(textIn(value), 'base64')
}

function messagesIn<Message>(
  value: unknown,
  type: { decode(bytes: Uint8Array): Message },
): readonly Message[] {
  return listIn(value).map((item) => type.decode(bytesIn(item)))
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64')
}

/** Whatever goes wrong while sealed state is read, it says so by one code and never what was in it. */
function reading<Result>(read: () => Result): Result {
  try {
    return read()
  } catch (error) {
    if (error instanceof AgentError && error.code.startsWith('CS_STATE_')) throw error
    throw unreadable('a part of it is damaged', error)
  }
}

function unreadable(why: string, cause?: unknown): AgentError {
  return new AgentError('CS_STATE_UNREADABLE', `state of the agent cannot be used: ${why}`, {
    cause,
  })
}

function foreign(found: TrustDomain, expected: TrustDomain): AgentError {
  return new AgentError('CS_STATE_FOREIGN', `state belongs to ${found}, not to ${expected}`)
}

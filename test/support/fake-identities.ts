import { AgentError } from '../../agent/errors.js'
import type { HeldEntry, Identities, Selector } from '../../agent/identities/identities.js'
import { entryMatcher } from '../../agent/identities/match.js'
import type {
  SignedSnapshot,
  SnapshotReport,
} from '../../proto/gen/countersign/policy/v1/policy.js'
import {
  bundleNotFound,
  makeSpiffeId,
  parseTrustDomain,
  type TrustBundle,
  type X509Svid,
} from '../../spiffe/index.js'
import { type TestAuthority, testAuthority } from './authority.js'

export interface FakeEntry {
  /** Path of the SPIFFE ID, such as `/web`. Also the id of the entry unless one is given. */
  readonly path: string
  /** `unix:uid:1000`, … */
  readonly selectors: readonly string[]
  readonly id?: string
  readonly hint?: string
  readonly federatesWith?: readonly string[]
  readonly admin?: boolean
  readonly downstream?: boolean
}

export interface FakeIdentitiesOptions {
  readonly authority?: TestAuthority
  readonly entries?: readonly FakeEntry[]
  readonly federated?: readonly TestAuthority[]
  /** When false the SVIDs of new entries do not come by themselves: see {@link FakeIdentities.issue}. */
  readonly prefetch?: boolean
}

/** What an agent holds, without a sentry: everything in it is real, and changes when a test says so. */
export interface FakeIdentities extends Identities {
  readonly authority: TestAuthority
  readonly reports: readonly SnapshotReport[]
  readonly forgotten: readonly (readonly [target: string, instance: string])[]
  /** Audiences that tokens were asked for. */
  readonly audiences: readonly (readonly string[])[]
  /** Replaces the entries; those that stay keep their SVIDs. */
  setEntries(entries: readonly FakeEntry[]): void
  setBundle(bundle: TrustBundle): void
  removeBundle(trustDomain: string): void
  setSnapshot(snapshot: SignedSnapshot): void
  setReady(ready: boolean): void
  /** A new SVID for the entry with this id, or for all. */
  issue(id?: string): void
  /** Lets go of the SVIDs in hand; waiters wait for the next. */
  expire(id?: string): void
  /** From now on nothing new can be had, and whoever waits or asks is told so; undefined ends it. */
  fail(error: Error | undefined): void
  /** Tells the listeners of a change though there is none. */
  touch(): void
}

export function fakeIdentities(options: FakeIdentitiesOptions = {}): FakeIdentities {
  const { authority = testAuthority('prod.example'), federated = [], prefetch = true } = options
  const listeners = new Set<() => void>()
  const svids = new Map<string, X509Svid>()
  const snapshots = new Map<string, SignedSnapshot>()
  const reports: SnapshotReport[] = []
  const forgotten: [string, string][] = []
  const audiences: (readonly string[])[] = []
  let bundles = new Map(
    [authority, ...federated].map(({ trustDomain, bundle }) => [trustDomain, bundle]),
  )
  let entries: readonly HeldEntry[] = []
  let match = entryMatcher(entries)
  let ready = true
  let failure: Error | undefined
  let created = 0n

  const touch = () => {
    for (const listener of listeners) listener()
  }
  const issueOne = (entry: HeldEntry) =>
    svids.set(entry.id, authority.issueX509({ id: entry.spiffeId }))
  const chosen = (id: string | undefined) =>
    entries.filter((entry) => id === undefined || entry.id === id)
  const place = (wanted: readonly FakeEntry[]) => {
    const known = new Map(entries.map((entry) => [entry.id, entry]))
    entries = wanted.map((one) => {
      const old = known.get(one.id ?? one.path)
      created += 1n
      return entryOf(one, { authority, createdAt: old?.createdAt ?? created })
    })
    match = entryMatcher(entries)
    for (const id of svids.keys()) if (!entries.some((entry) => entry.id === id)) svids.delete(id)
    for (const entry of entries) if (prefetch && !svids.has(entry.id)) issueOne(entry)
  }
  place(options.entries ?? [])

  return {
    authority,
    reports,
    forgotten,
    audiences,
    touch,
    trustDomain: authority.trustDomain,
    ready: () => ready,
    entries: () => entries,
    entriesFor: (selectors) => match(selectors),
    x509Svid: (entry) => svids.get(entry.id),
    whenX509Svid: (entry, signal) =>
      new Promise((resolve, reject) => {
        const settle = () => {
          const svid = svids.get(entry.id)
          if (svid) resolve(svid)
          else if (signal.aborted) reject(signal.reason as Error)
          else if (failure) reject(failure)
          else return
          listeners.delete(settle)
        }
        listeners.add(settle)
        signal.addEventListener('abort', settle, { once: true })
        settle()
      }),
    async jwtSvid({ entry, audience, signal }) {
      signal.throwIfAborted()
      if (failure) throw failure
      audiences.push(audience)
      const token = authority.issueJwt({ id: entry.spiffeId, audience })
      return { token, expiresAt: Number.MAX_SAFE_INTEGER }
    },
    bundles: () => bundles,
    bundleFor: (trustDomain) => bundles.get(trustDomain) ?? bundleNotFound(trustDomain),
    snapshot: (target) => snapshots.get(target),
    report(report) {
      reports.push(report)
    },
    forgetReport(target, instance) {
      forgotten.push([target, instance])
    },
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    status: () => ({
      agentId: makeSpiffeId(authority.trustDomain, '/spire/agent/join_token/fake'),
      serialNumber: '2a',
      svidExpiresAt: 2_000_000_000_000,
      lastSyncAt: 1_900_000_000_500,
      connected: true,
      sequence: 7n,
      entries: entries.length,
      x509Svids: svids.size,
      jwtSvids: 0,
      trustDomains: [...bundles.keys()],
      problem: undefined,
    }),
    setEntries(wanted) {
      place(wanted)
      touch()
    },
    setBundle(bundle) {
      bundles = new Map([...bundles, [bundle.trustDomain, bundle]])
      touch()
    },
    removeBundle(trustDomain) {
      bundles = new Map([...bundles].filter(([name]) => name !== trustDomain))
      touch()
    },
    setSnapshot(snapshot) {
      snapshots.set(snapshot.target, snapshot)
      touch()
    },
    setReady(value) {
      ready = value
      touch()
    },
    issue(id) {
      chosen(id).forEach(issueOne)
      touch()
    },
    expire(id) {
      for (const entry of chosen(id)) svids.delete(entry.id)
      touch()
    },
    fail(error) {
      failure = error
      touch()
    },
  }
}

/** What an agent without a sentry says. */
export const sentryAway = () => new AgentError('CS_SENTRY_UNAVAILABLE', 'no sentry answers')

export function selectorOf(text: string): Selector {
  const colon = text.indexOf(':')
  return { type: text.slice(0, colon), value: text.slice(colon + 1) }
}

function entryOf(
  { path, selectors, id = path, hint = '', federatesWith = [], admin, downstream }: FakeEntry,
  { authority, createdAt }: { readonly authority: TestAuthority; readonly createdAt: bigint },
): HeldEntry {
  return {
    id,
    spiffeId: makeSpiffeId(authority.trustDomain, path),
    selectors: selectors.map(selectorOf),
    federatesWith: federatesWith.map(parseTrustDomain),
    hint,
    admin: admin ?? false,
    downstream: downstream ?? false,
    revision: 0n,
    createdAt,
  }
}

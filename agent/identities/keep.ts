import type { Clock } from '../../platform/clock.js'
import type { Log } from '../../platform/log.js'
import type { Random } from '../../platform/random.js'
import type { SnapshotReport } from '../../proto/gen/countersign/policy/v1/policy.js'
import { bundleNotFound, type TrustBundle, type TrustDomain } from '../../spiffe/index.js'
import type { Issuer } from '../sentry/issuer.js'
import { type Held, type HeldBundle, nothingHeld } from './held.js'
import type { AgentStatus, HeldEntry, Identities } from './identities.js'
import { jwtKeeper } from './jwt-keeper.js'
import { changeListeners, type Listen } from './listeners.js'
import { type EntryMatcher, entryMatcher } from './match.js'
import { snapshotReports } from './reports.js'
import { soundPart } from './trust.js'
import { applyUpdate, isVisible, type Update } from './update.js'
import { type X509KeeperOptions, x509Keeper } from './x509-keeper.js'

export interface KeepOptions {
  readonly trustDomain: TrustDomain
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** What the sealed file held. */
  readonly initial: Held
  /** Whether that is what a sentry once said, and not only a bundle to begin with. */
  readonly known: boolean
  readonly issuer: Issuer
  readonly status: () => KeptStatus
  readonly onBatch?: X509KeeperOptions['onBatch']
}

/** What the rest of the agent adds to its status. */
export type KeptStatus = Omit<
  AgentStatus,
  'entries' | 'x509Svids' | 'jwtSvids' | 'trustDomains' | 'sequence'
>

/** The identities of this machine, and how they change. */
export interface KeptIdentities extends Identities {
  held(): Held
  heldBundle(trustDomain: TrustDomain): HeldBundle | undefined
  /** Takes a change whole. */
  update(update: Update): void
  /** Lets go of all but our own bundle, at the sentry's word. */
  wipe(): void
  reports(): readonly SnapshotReport[]
  readonly onReport: Listen
  /** Keeps SVIDs and tokens fresh until `signal` aborts. */
  run(signal: AbortSignal): Promise<void>
}

export function keepIdentities(options: KeepOptions): KeptIdentities {
  const { trustDomain, clock, random, log, issuer } = options
  let held = options.initial
  let known = options.known
  const entryIndex = remembering(indexEntries)
  const bundlesOf = remembering(plainBundles)
  const soundKeys = remembering(soundKeysOf)
  const onError = (error: unknown) => log.error({ reason: String(error) }, 'a listener failed')
  const listeners = changeListeners(onError)
  const reports = snapshotReports(onError)

  const entry = (id: string) => entryIndex(held.entries).byId.get(id)
  const replace = (next: Held) => {
    const visible = isVisible(held, next)
    held = next
    if (visible) listeners.notify()
  }
  const now = () => clock.now().getTime()
  const onBatch = options.onBatch ?? (() => {})
  const x509 = x509Keeper({
    held: () => held,
    entry,
    replace,
    issuer,
    clock,
    random,
    log,
    onBatch,
  })
  const isSound = (keyId: string) => soundKeys(held.bundles.get(trustDomain)).has(keyId)
  const jwt = jwtKeeper({ entry, isSound, issuer, clock, random, log })
  const take = (next: Held) => {
    replace(next)
    x509.heldChanged()
    jwt.heldChanged()
  }

  return {
    trustDomain,
    ready: () => known,
    entries: () => held.entries,
    entriesFor: (selectors) => entryIndex(held.entries).match(selectors),
    x509Svid({ id }) {
      const inHand = held.svids.get(id)
      return inHand && inHand.expiresAt > now() ? inHand.svid : undefined
    },
    whenX509Svid: x509.whenSvid,
    jwtSvid: jwt.jwtSvid,
    bundles: () => bundlesOf(held.bundles),
    bundleFor: (name) => held.bundles.get(name)?.bundle ?? bundleNotFound(name),
    snapshot: (target) => held.snapshots.get(target),
    report: reports.report,
    forgetReport: reports.forget,
    onChange: listeners.listen,
    status: () => ({
      ...options.status(),
      sequence: held.sequence,
      entries: held.entries.length,
      x509Svids: held.svids.size,
      jwtSvids: jwt.size(),
      trustDomains: [...held.bundles.keys()],
    }),

    held: () => held,
    heldBundle: (name) => held.bundles.get(name),
    update(update) {
      known ||= update.full
      take(applyUpdate(held, update, { trustDomain, now: now() }))
    },
    wipe() {
      const own = held.bundles.get(trustDomain)
      take({ ...nothingHeld, ...(own && { bundles: new Map([[trustDomain, own]]) }) })
    },
    reports: reports.all,
    onReport: reports.onReport,
    async run(signal) {
      await Promise.all([x509.run(signal), jwt.run(signal)])
    },
  }
}

/** Keeps the last result: what has not changed gives the same object again, so that others can tell by `===`. */
function remembering<Input, Result>(make: (input: Input) => Result): (input: Input) => Result {
  let last: { readonly input: Input; readonly result: Result } | undefined
  return (input) => {
    if (!last || last.input !== input) last = { input, result: make(input) }
    return last.result
  }
}

interface EntryIndex {
  readonly byId: ReadonlyMap<string, HeldEntry>
  readonly match: EntryMatcher
}

function indexEntries(entries: readonly HeldEntry[]): EntryIndex {
  return {
    byId: new Map(entries.map((entry) => [entry.id, entry])),
    match: entryMatcher(entries),
  }
}

function plainBundles(bundles: Held['bundles']): ReadonlyMap<TrustDomain, TrustBundle> {
  return new Map([...bundles].map(([name, { bundle }]) => [name, bundle]))
}

function soundKeysOf(own: HeldBundle | undefined): ReadonlySet<string> {
  return new Set(own && soundPart(own).jwtAuthorities.keys())
}

import type { SpiffeId, TrustDomain } from '../../../spiffe/index.js'
import type { PresentedSvid } from '../../attestation/agents.js'
import { type BundleRecord, bundleTable } from '../../bundles/bundle-record.js'
import type { Datastore } from '../../datastore/datastore.js'
import { latch } from '../../latch.js'
import type { Policies } from '../../policy/policies.js'
import type { SignableSnapshot, SnapshotSigner } from '../../policy/snapshot-signer.js'
import type { AuthorizedEntries } from '../../registration/authorized.js'
import { changeBetween, type HeldState, nothingHeld, type StateChange } from './held-state.js'

/** The parts of a state that may have changed. */
export type Part = 'entries' | 'bundles' | 'snapshots'

/** One agent that follows: what it holds, and what it has not been told yet. */
export interface Follower {
  readonly agent: PresentedSvid
  /** Whether the agent's entries name this trust domain or target. */
  federatesWith(trustDomain: TrustDomain): boolean
  runs(target: SpiffeId): boolean
  mark(part: Part): void
  /** Ends the stream: with the error, or without one when the agent need only come back. */
  end(error?: Error): void
  /** Resolves to true when something is marked, to false when the stream is to end. Rejects with its error. */
  marked(): Promise<boolean>
  /** What leads from what the agent holds to how things stand now, and makes that what it holds. */
  takeChange(): StateChange
}

export interface FollowerOptions {
  readonly datastore: Datastore
  readonly authorized: AuthorizedEntries
  readonly policies: Policies
  readonly signer: SnapshotSigner
  readonly trustDomain: TrustDomain
}

export function follower(agent: PresentedSvid, options: FollowerOptions): Follower {
  const { authorized, trustDomain } = options
  const marks = new Set<Part>(['entries'])
  let held: HeldState = nothingHeld
  let names: Names = { trustDomains: new Set(), targets: new Set() }
  let ended = false
  let failure: Error | undefined
  const wake = latch({ opened: true })

  return {
    agent,
    federatesWith: (name) => name === trustDomain || names.trustDomains.has(name),
    runs: (target) => names.targets.has(target),
    mark(part) {
      marks.add(part)
      wake.open()
    },
    end(error) {
      if (!ended) failure = error
      ended = true
      wake.open()
    },
    async marked() {
      await wake.passed()
      if (failure) throw failure
      return !ended
    },
    takeChange() {
      const before = held
      const all = marks.has('entries')
      if (all) names = namesIn(authorized.of(agent.id))
      held = {
        entries: all ? authorized.of(agent.id) : held.entries,
        bundles: all || marks.has('bundles') ? bundlesFor(names, options) : held.bundles,
        snapshots: all || marks.has('snapshots') ? snapshotsFor(names, options) : held.snapshots,
      }
      marks.clear()
      return changeBetween(before, held)
    },
  }
}

/** What the entries of an agent name. */
interface Names {
  readonly trustDomains: ReadonlySet<TrustDomain>
  readonly targets: ReadonlySet<SpiffeId>
}

function namesIn(entries: HeldState['entries']): Names {
  const trustDomains = new Set<TrustDomain>()
  const targets = new Set<SpiffeId>()
  for (const { federatesWith, spiffeId } of entries.values()) {
    targets.add(spiffeId)
    for (const trustDomain of federatesWith) trustDomains.add(trustDomain)
  }
  return { trustDomains, targets }
}

function bundlesFor(
  { trustDomains }: Names,
  { datastore, trustDomain }: FollowerOptions,
): HeldState['bundles'] {
  const bundles = datastore.view(bundleTable)
  const found = new Map<TrustDomain, BundleRecord>()
  for (const name of [trustDomain, ...trustDomains]) {
    const bundle = bundles.get(name)
    if (bundle) found.set(name, bundle)
  }
  return found
}

function snapshotsFor(
  { targets }: Names,
  { policies, signer }: FollowerOptions,
): HeldState['snapshots'] {
  const found = new Map<SpiffeId, SignableSnapshot>()
  for (const target of targets) {
    const snapshot = policies.snapshotOf(target)
    if (snapshot) found.set(target, signer.under(snapshot))
  }
  return found
}

import type {
  SignedSnapshot,
  SnapshotReport,
} from '../../proto/gen/countersign/policy/v1/policy.js'
import type {
  BundleSource,
  SpiffeId,
  TrustBundle,
  TrustDomain,
  X509Svid,
} from '../../spiffe/index.js'

/** One fact about a process, as an attestor vouches for it. Equality is on both parts. */
export interface Selector {
  readonly type: string
  readonly value: string
}

/** A registration entry this agent may issue for. */
export interface HeldEntry {
  readonly id: string
  readonly spiffeId: SpiffeId
  readonly selectors: readonly Selector[]
  readonly federatesWith: readonly TrustDomain[]
  readonly hint: string
  readonly admin: boolean
  readonly downstream: boolean
  /** Its SVID is fetched when a workload asks, not before. */
  readonly onDemand?: boolean
  readonly revision: bigint
  /** Seconds since 1970. */
  readonly createdAt: bigint
}

export interface HeldJwtSvid {
  readonly token: string
  /** Milliseconds since 1970. */
  readonly expiresAt: number
}

/** Why the agent is not in step with its sentry: a reason code, also of the SPIFFE library, and a word of detail. */
export interface AgentProblem {
  readonly code: string
  readonly message: string
}

/** What the agent says about itself. Times are milliseconds since 1970. */
export interface AgentStatus {
  readonly agentId: SpiffeId | undefined
  /** Lower-case hex. */
  readonly serialNumber: string | undefined
  readonly svidExpiresAt: number | undefined
  readonly lastSyncAt: number | undefined
  readonly connected: boolean
  /** Position in the sentry's change log; 0 when the sentry has none to tell. */
  readonly sequence: bigint
  readonly entries: number
  readonly x509Svids: number
  readonly jwtSvids: number
  readonly trustDomains: readonly TrustDomain[]
  readonly problem: AgentProblem | undefined
}

/** What the workloads of this machine may hold, and the only thing the local sockets serve from. */
export interface Identities extends BundleSource {
  readonly trustDomain: TrustDomain
  /** Has state, from the sentry or from the sealed file. */
  ready(): boolean
  /** By time of creation, then by id. */
  entries(): readonly HeldEntry[]
  /** Those whose selectors are all among the given ones, in the order of `entries`; the first is the default. */
  entriesFor(selectors: readonly Selector[]): readonly HeldEntry[]
  /** The SVID in hand, if it has not expired. */
  x509Svid(entry: HeldEntry): X509Svid | undefined
  /**
   * Asks the sentry for it when there is none in hand. Throws `CS_ENTRY_WITHDRAWN`,
   * `CS_SENTRY_UNAVAILABLE`, `CS_ISSUANCE_REFUSED` or the signal's reason.
   */
  whenX509Svid(entry: HeldEntry, signal: AbortSignal): Promise<X509Svid>
  /** Throws as `whenX509Svid` does. */
  jwtSvid(request: JwtRequest): Promise<HeldJwtSvid>
  /** Our own and the federated ones. A new map for every change. */
  bundles(): ReadonlyMap<TrustDomain, TrustBundle>
  snapshot(target: SpiffeId): SignedSnapshot | undefined
  /** What a sidecar says it enforces; told to the sentry. */
  report(report: SnapshotReport): void
  forgetReport(target: string, instance: string): void
  /** Called once after each change of any of the above, whole. Returns the way to stop. */
  onChange(listener: () => void): () => void
  status(): AgentStatus
}

export interface JwtRequest {
  readonly entry: HeldEntry
  readonly audience: readonly string[]
  readonly signal: AbortSignal
}

import { isIP } from 'node:net'
import type { Metrics } from '../platform/metrics.js'
import {
  makeSpiffeId,
  type PeerVerifier,
  peerVerifier,
  type SpiffeId,
  type X509Svid,
} from '../spiffe/index.js'
import { authorization } from './api/authorization.js'
import { type CallerBook, callerBook } from './api/caller.js'
import type { ApiContext, SvidLifetimes } from './api/context.js'
import { type Servers, servers } from './api/servers.js'
import { type RateLimits, serviceLimits } from './api/service-limits.js'
import { type UpdatesHub, updatesHub } from './api/updates/hub.js'
import { joinTokenAttestor } from './attestation/join-token.js'
import type { HeldBundles } from './bundles/held-bundles.js'
import { issuePipeline } from './issue.js'
import { measuredPipeline } from './measured-pipeline.js'
import { type SentryMetrics, sentryMetrics } from './metrics.js'
import { type OwnIdentity, ownIdentity } from './own-identity.js'
import type { PolicyCompiler } from './policy/compiler.js'
import { type Policies, policies } from './policy/policies.js'
import { type ReportBook, reportBook } from './policy/reports.js'
import { snapshotSigner } from './policy/snapshot-signer.js'
import { authorizedEntries } from './registration/authorized.js'
import type { SentryState, StateOptions } from './state.js'

export interface PartsOptions extends Omit<StateOptions, 'lifetimes'> {
  readonly state: SentryState
  readonly bundles: HeldBundles
  readonly compiler: PolicyCompiler
  readonly metrics: Metrics
  readonly svidLifetimes: SvidLifetimes
  readonly names: readonly string[]
  readonly adminIds: ReadonlySet<SpiffeId>
  readonly rateLimits: RateLimits
  readonly jwtIssuer?: string
  readonly rs256Audiences?: readonly string[]
  /** Aborts, with `CS_SHUTTING_DOWN`, when the sentry stops. */
  readonly stopping: AbortSignal
  /** New handshakes are to present it. */
  readonly onServerIdentity: (identity: X509Svid) => void
}

/** What works inside the sentry, apart from where it listens. */
export interface Parts {
  readonly serverIdentity: OwnIdentity
  readonly policySigner: OwnIdentity
  readonly verifier: PeerVerifier
  readonly callers: CallerBook
  readonly servers: Servers
  readonly policies: Policies
  readonly reports: ReportBook
  readonly hub: UpdatesHub
  readonly metrics: SentryMetrics
}

const SERVER_IDENTITY_SECONDS = 60 * 60
/** Long, because a sidecar that restarts verifies the snapshot that it stored. */
const POLICY_SIGNER_SECONDS = 3 * 24 * 60 * 60

/** Builds the parts on each other. Throws `CS_AUTHORITY_NOT_VALID` when the clock is too far off to sign. */
export function buildParts(options: PartsOptions): Parts {
  const { state, trustDomain, clock, random, log } = options
  const { datastore, audit, authorities } = state
  const metrics = sentryMetrics(options.metrics, { trustDomain, now: () => clock.now() })
  const issuing = issuePipeline({ ...options, authorities, audit })
  const pipeline = measuredPipeline(issuing, { metrics, clock })

  const authorized = authorizedEntries(datastore, trustDomain)
  const documents = policies({ datastore, compiler: options.compiler, clock, log })
  const hub = updatesHub({ datastore, authorized })
  const reports = reportBook(clock)
  const identity = identities(options, issuing)
  const signer = snapshotSigner(identity.policySigner.current())
  identity.onPolicySigner((svid) => {
    signer.setIdentity(svid)
    hub.signerChanged()
  })

  const api: ApiContext = {
    trustDomain,
    datastore,
    authorized,
    pipeline,
    audit,
    metrics,
    clock,
    random,
    log,
    stopping: options.stopping,
    attestors: new Map([['join_token', joinTokenAttestor({ datastore, clock })]]),
    lifetimes: options.svidLifetimes,
    limits: serviceLimits(options.rateLimits, clock),
  }
  const callers = callerBook()
  const now = () => clock.now()
  return {
    ...identity,
    hub,
    reports,
    metrics,
    callers,
    policies: documents,
    verifier: peerVerifier({ bundles: options.bundles }),
    servers: servers({
      api,
      callers,
      datastore,
      authorized,
      signer,
      reports,
      hub,
      trustDomain,
      policies: documents,
      authorization: authorization({ datastore, trustDomain, now, adminIds: options.adminIds }),
    }),
  }
}

function identities(options: PartsOptions, pipeline: ReturnType<typeof issuePipeline>) {
  const { trustDomain, clock, names, state } = options
  let onPolicySigner: Parameters<typeof ownIdentity>[1]['onRenewed'] = () => undefined
  const longest = state.authorities.lifetimes.longestX509Svid
  return {
    serverIdentity: ownIdentity(pipeline, {
      id: makeSpiffeId(trustDomain, '/spire/server'),
      ttlSeconds: Math.min(SERVER_IDENTITY_SECONDS, longest),
      // Strict clients look for the host name that they dialled beside the SPIFFE ID.
      dnsNames: names.filter((name) => isIP(name) === 0),
      ipAddresses: names.filter((name) => isIP(name) !== 0),
      clock,
      onRenewed: options.onServerIdentity,
    }),
    policySigner: ownIdentity(pipeline, {
      id: makeSpiffeId(trustDomain, '/spire/countersign/policy-signer'),
      ttlSeconds: Math.min(POLICY_SIGNER_SECONDS, longest),
      clock,
      onRenewed: (svid) => onPolicySigner(svid),
    }),
    onPolicySigner(listener: typeof onPolicySigner) {
      onPolicySigner = listener
    },
  }
}

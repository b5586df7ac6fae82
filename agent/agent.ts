import type { Readiness } from '../platform/admin-http.js'
import type { Clock } from '../platform/clock.js'
import type { Log } from '../platform/log.js'
import type { Metrics } from '../platform/metrics.js'
import type { Random } from '../platform/random.js'
import type { SealedFile } from '../platform/sealer.js'
import type { TrustBundle, TrustDomain } from '../spiffe/index.js'
import { AgentError, type AgentErrorCode } from './errors.js'
import { type Held, nothingHeld } from './identities/held.js'
import type { Identities } from './identities/identities.js'
import { type KeptIdentities, type KeptStatus, keepIdentities } from './identities/keep.js'
import { changeListeners, type Listen } from './identities/listeners.js'
import { expiryOf } from './identities/renewal.js'
import { countBatches, watchAgent } from './metrics.js'
import { type OwnStore, ownStore } from './own-store.js'
import { type Saver, stateSaver } from './saver.js'
import type { Evidence } from './sentry/attest.js'
import { hasExpired } from './sentry/own-identity.js'
import { updateReader } from './sentry/read-update.js'
import { type Session, sentrySession } from './sentry/session.js'
import { type AgentState, readState, writeState } from './state.js'
import { lifetime, onAbort } from './waits.js'

export interface AgentOptions {
  readonly trustDomain: TrustDomain
  /** `host:port` of sentries or SPIRE servers. */
  readonly sentries: readonly string[]
  /** Whom to trust at the first start; later what the state holds counts. */
  readonly trustBundle?: TrustBundle
  readonly joinToken?: string
  readonly stateFile: SealedFile
  readonly version: string
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly metrics: Metrics
  /** Opens the local sockets; they are closed before anything else ends. */
  readonly serve?: (identities: Identities) => Promise<AsyncDisposable>
}

export interface RunningAgent extends AsyncDisposable {
  readonly identities: Identities
  readiness(): Readiness
  /**
   * Resolves when there is something to serve. Rejects with the signal's reason, or with what only an
   * operator can change: `CS_ATTESTATION_REJECTED`, `CS_EVIDENCE_MISSING`, `CS_BANNED_BY_SENTRY`.
   */
  whenReady(signal: AbortSignal): Promise<void>
  close(): Promise<void>
}

/**
 * Starts an agent from its sealed state, or from a bundle and a join token. It then runs until it is
 * closed, whatever its sentry does. Throws for state that cannot be used (`CS_SEAL_BROKEN`,
 * `CS_STATE_UNREADABLE`, `CS_STATE_FOREIGN`), which it leaves as it is, and for `CS_TRUST_BUNDLE_MISSING`.
 */
export async function startAgent(options: AgentOptions): Promise<RunningAgent> {
  const { clock, log, metrics, serve } = options
  const state = (await loadState(options)) ?? firstState(options)
  const parts = assemble(options, state)
  const { identities, session, store, saver } = parts
  watchAgent(metrics, identities)

  const life = lifetime()
  const running = Promise.all([
    saver.run(life.signal),
    identities.run(life.signal),
    session.run(life.signal),
  ])
  running.catch((error: unknown) => log.error({ error }, 'a part of the agent has stopped'))
  const stop = once(async () => {
    life.abort(new AgentError('CS_AGENT_STOPPING', 'the agent is stopping'))
    await running
  })
  const sockets = await serve?.(identities).catch(async (error: unknown) => {
    await stop()
    throw error
  })
  log.info({ trustDomain: options.trustDomain, agent: store.current()?.svid.id }, 'agent runs')

  const close = once(async () => {
    await sockets?.[Symbol.asyncDispose]()
    await stop()
    log.info({}, 'agent has stopped')
  })
  return {
    identities,
    readiness: () => readinessOf(parts, clock.now().getTime()),
    whenReady: (signal) => whenReady(parts, clock, signal),
    close,
    [Symbol.asyncDispose]: close,
  }
}

interface Parts {
  readonly identities: KeptIdentities
  readonly session: Session
  readonly store: OwnStore
  readonly saver: Saver
  /** Told of everything that may make the agent ready. */
  readonly onProgress: Listen
}

async function loadState({
  stateFile,
  trustDomain,
}: AgentOptions): Promise<AgentState | undefined> {
  const bytes = await stateFile.read()
  return bytes && readState(bytes, trustDomain)
}

function firstState({ trustDomain }: AgentOptions): AgentState {
  return { trustDomain, own: undefined, banned: false, spentEvidence: [], held: nothingHeld }
}

/** A bundle that the sentry has once sent wins over the configured one, which may be older. */
function withTrust(held: Held, { trustDomain, trustBundle }: AgentOptions): Held {
  if (held.bundles.has(trustDomain)) return held
  if (!trustBundle) throw noTrust('there is neither stored state nor a configured bundle')
  if (trustBundle.trustDomain !== trustDomain) {
    throw noTrust(
      `the configured bundle is that of ${trustBundle.trustDomain}, not of ${trustDomain}`,
    )
  }
  if (trustBundle.x509Authorities.length === 0) throw noTrust('the configured bundle has no root')
  const first = {
    bundle: trustBundle,
    taintedX509: new Set<string>(),
    taintedJwt: new Set<string>(),
  }
  return { ...held, bundles: new Map([...held.bundles, [trustDomain, first]]) }
}

/** The parts know each other only by the functions given here. */
function assemble(options: AgentOptions, state: AgentState): Parts {
  const { trustDomain, clock, random, log } = options
  const progress = changeListeners()
  const store = ownStore({
    initial: state,
    save: () => saver.now(),
    onWipe: () => identities.wipe(),
  })
  const saver = stateSaver({
    file: options.stateFile,
    state: () => writeState({ trustDomain, ...store.record(), held: identities.held() }),
    clock,
    random,
    log,
  })
  const identities: KeptIdentities = keepIdentities({
    ...{ trustDomain, clock, random, log },
    initial: withTrust(state.held, options),
    known: state.own !== undefined || state.banned,
    issuer: {
      x509Svids: (requests, signal) => session.x509Svids(requests, signal),
      jwtSvid: (request, signal) => session.jwtSvid(request, signal),
    },
    status: () => statusOf(store, session),
    onBatch: countBatches(options.metrics),
  })
  const { joinToken } = options
  const session = sentrySession({
    ...{ trustDomain, store, clock, random, log },
    addresses: options.sentries,
    bundles: identities,
    heldBundle: identities.heldBundle,
    evidence: joinToken === undefined ? undefined : joinTokenEvidence(joinToken),
    agentVersion: options.version,
    read: updateReader({ trustDomain, heldBundle: identities.heldBundle, log }),
    entries: identities.entries,
    onUpdate: identities.update,
    acknowledgement: () => ({
      sequence: identities.held().sequence,
      bundleSequence: identities.heldBundle(trustDomain)?.bundle.sequence ?? 0n,
      reports: identities.reports(),
    }),
    onReport: identities.onReport,
    onChange: progress.notify,
  })

  let ownBundle = identities.heldBundle(trustDomain)
  identities.onChange(() => {
    saver.soon()
    progress.notify()
    const bundle = identities.heldBundle(trustDomain)
    if (bundle !== ownBundle) session.bundleChanged()
    ownBundle = bundle
  })
  return { identities, session, store, saver, onProgress: progress.listen }
}

function statusOf(store: OwnStore, { standing }: Session): KeptStatus {
  const svid = store.current()?.svid
  return {
    agentId: svid?.id,
    serialNumber: svid?.chain[0].serialNumber,
    svidExpiresAt: svid && expiryOf(svid),
    lastSyncAt: standing.lastSyncAt(),
    connected: standing.connected(),
    problem: standing.problem(),
  }
}

function readinessOf({ identities, store, session }: Parts, now: number): Readiness {
  const own = store.current()
  const usable = own !== undefined && !hasExpired(own, now)
  if (usable && identities.ready()) return { ready: true, reasons: [] }
  const problem = session.standing.problem()
  return {
    ready: false,
    reasons: [
      problem ? `${problem.code}: ${problem.message}` : 'CS_IDENTITIES_NOT_READY: not attested yet',
    ],
  }
}

/** What no waiting mends: an agent that meets one of these before it is ready will not become so. */
const hopeless: ReadonlySet<string> = new Set([
  'CS_ATTESTATION_REJECTED',
  'CS_EVIDENCE_MISSING',
  'CS_BANNED_BY_SENTRY',
  'CS_OWN_SVID_EXPIRED',
] satisfies AgentErrorCode[])

function whenReady(parts: Parts, clock: Clock, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    let stop = () => {}
    const settle = (finish: () => void) => {
      stop()
      aborted[Symbol.dispose]()
      finish()
    }
    const look = () => {
      if (readinessOf(parts, clock.now().getTime()).ready) return settle(resolve)
      const problem = parts.session.standing.problem()
      if (problem && isHopeless(problem.code)) {
        settle(() => reject(new AgentError(problem.code as AgentErrorCode, problem.message)))
      }
    }
    signal.throwIfAborted()
    const aborted = onAbort(signal, () => settle(() => reject(signal.reason as Error)))
    stop = parts.onProgress(look)
    look()
  })
}

function isHopeless(code: string): boolean {
  return hopeless.has(code)
}

function joinTokenEvidence(token: string): Evidence {
  return { type: 'join_token', payload: Buffer.from(token, 'utf8') }
}

function noTrust(why: string): AgentError {
  return new AgentError('CS_TRUST_BUNDLE_MISSING', why)
}

function once(act: () => Promise<void>): () => Promise<void> {
  let acted: Promise<void> | undefined
  return () => (acted ??= act())
}

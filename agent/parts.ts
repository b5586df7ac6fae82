import type { AgentOptions } from './agent.js'
import { AgentError } from './errors.js'
import type { Held } from './identities/held.js'
import { type KeptIdentities, type KeptStatus, keepIdentities } from './identities/keep.js'
import { changeListeners, type Listen } from './identities/listeners.js'
import { expiryOf } from './identities/renewal.js'
import { countBatches } from './metrics.js'
import { type OwnStore, ownStore } from './own-store.js'
import { type Saver, stateSaver } from './saver.js'
import type { Evidence } from './sentry/attest.js'
import { updateReader } from './sentry/read-update.js'
import { type Session, sentrySession } from './sentry/session.js'
import { type AgentState, writeState } from './state.js'

/** What an agent is made of. */
export interface Parts {
  readonly identities: KeptIdentities
  readonly session: Session
  readonly store: OwnStore
  readonly saver: Saver
  /** Told of everything that may make the agent ready. */
  readonly onProgress: Listen
}

/**
 * Puts an agent together from its state. The parts know each other only by the functions given here.
 * Throws `CS_TRUST_BUNDLE_MISSING`.
 */
export function assemble(options: AgentOptions, state: AgentState): Parts {
  const { trustDomain, clock, random, log } = options
  /** Whether the state is what a sentry once said, and not only a bundle to begin with. */
  const known = state.own !== undefined || state.banned
  const progress = changeListeners((error) =>
    log.error({ reason: String(error) }, 'a listener failed'),
  )
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
    trustDomain,
    clock,
    random,
    log,
    initial:
      known && state.held.bundles.has(trustDomain) ? state.held : withTrust(state.held, options),
    known,
    issuer: {
      x509Svids: (requests, signal) => session.x509Svids(requests, signal),
      jwtSvid: (request, signal) => session.jwtSvid(request, signal),
    },
    status: () => statusOf(store, session),
    onBatch: countBatches(options.metrics),
  })
  const { joinToken } = options
  const session = sentrySession({
    trustDomain,
    store,
    clock,
    random,
    log,
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

/**
 * What a sentry has once sent wins over the configured bundle, which may be older. Until then the
 * configured one counts, also over one that was sealed in vain, since it may have been put right.
 */
function withTrust(held: Held, { trustDomain, trustBundle }: AgentOptions): Held {
  if (!trustBundle && held.bundles.has(trustDomain)) return held
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

function joinTokenEvidence(token: string): Evidence {
  return { type: 'join_token', payload: Buffer.from(token, 'utf8') }
}

function noTrust(why: string): AgentError {
  return new AgentError('CS_TRUST_BUNDLE_MISSING', why)
}

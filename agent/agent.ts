import type { Readiness } from '../platform/admin-http.js'
import type { Clock } from '../platform/clock.js'
import type { Log } from '../platform/log.js'
import type { Metrics } from '../platform/metrics.js'
import type { Random } from '../platform/random.js'
import type { SealedFile } from '../platform/sealer.js'
import type { TrustBundle, TrustDomain } from '../spiffe/index.js'
import { AgentError } from './errors.js'
import { nothingHeld } from './identities/held.js'
import type { Identities } from './identities/identities.js'
import { watchAgent, watchSockets } from './metrics.js'
import { assemble } from './parts.js'
import { notReady, readinessOf, whenReady } from './readiness.js'
import { type AgentState, readState } from './state.js'
import { lifetime } from './waits.js'

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
  readonly serve?: (identities: Identities) => Promise<LocalSockets>
}

/** What serves the workloads of this machine. */
export interface LocalSockets extends AsyncDisposable {
  /** Streams that are open. */
  streams?(): number
  connections?(): number
  /** Calls `listener` with the reason code of each refusal. */
  onRefusal?(listener: (code: string) => void): void
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
  let broken: AgentError | undefined
  const partStopped = (error: unknown) => {
    broken = new AgentError('CS_AGENT_BROKEN', String(error), { cause: error })
    log.error({ code: broken.code, reason: broken.message }, 'a part of the agent has stopped')
  }
  const running = Promise.all(
    [saver, identities, session].map((part) => part.run(life.signal).catch(partStopped)),
  )
  const stop = once(async () => {
    life.abort(new AgentError('CS_AGENT_STOPPING', 'the agent is stopping'))
    await running
  })
  const sockets = await serve?.(identities).catch(async (error: unknown) => {
    await stop()
    throw error
  })
  watchSockets(metrics, sockets)
  log.info({ trustDomain: options.trustDomain, agent: store.current()?.svid.id }, 'agent runs')

  const close = once(async () => {
    await sockets?.[Symbol.asyncDispose]()
    await stop()
    log.info({}, 'agent has stopped')
  })
  return {
    identities,
    readiness: () => (broken ? notReady(broken) : readinessOf(parts, clock.now().getTime())),
    whenReady: (signal) => whenReady(parts, clock, signal),
    close,
    [Symbol.asyncDispose]: close,
  }
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

function once(act: () => Promise<void>): () => Promise<void> {
  let acted: Promise<void> | undefined
  return () => (acted ??= act())
}

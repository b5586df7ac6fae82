import type { Clock } from '../../platform/clock.js'
import type { Log } from '../../platform/log.js'
import type { Random } from '../../platform/random.js'
import type { TrustDomain } from '../../spiffe/index.js'
import { AgentError } from '../errors.js'
import type { HeldEntry } from '../identities/identities.js'
import type { Connection } from './connection.js'
import { type FollowOptions, follow } from './follow.js'
import { poll } from './poll.js'
import { isUnimplemented } from './refusal.js'

export interface StepOptions extends FollowOptions {
  readonly trustDomain: TrustDomain
  readonly entries: () => readonly HeldEntry[]
  /** The agent has just taken in everything the sentry had to tell. */
  readonly onSynced: () => void
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

const POLL_MS = 5_000
const POLL_SPREAD = 0.1

/**
 * Follows the sentry's stream, or polls one that has none, as a SPIRE server. Ends only by throwing:
 * what gRPC threw, `CS_SENTRY_UNAVAILABLE` when the sentry ended the stream, or the signal's reason.
 */
export async function stayInStep(
  connection: Connection,
  options: StepOptions,
  signal: AbortSignal,
): Promise<never> {
  const onUpdate: FollowOptions['onUpdate'] = (update) => {
    options.onUpdate(update)
    options.onSynced()
  }
  try {
    await follow(connection, { ...options, onUpdate }, signal)
  } catch (error) {
    if (!isUnimplemented(error)) throw error
    options.log.info({ sentry: connection.address }, 'sentry does not push, so it is polled')
    return await pollForEver(connection, options, signal)
  }
  throw new AgentError('CS_SENTRY_UNAVAILABLE', `sentry ${connection.address} ended the stream`)
}

async function pollForEver(
  connection: Connection,
  options: StepOptions,
  signal: AbortSignal,
): Promise<never> {
  await tellVersion(connection, options, signal)
  for (;;) {
    options.onUpdate(await poll(connection, options, signal))
    options.onSynced()
    const spread = 1 - POLL_SPREAD + 2 * POLL_SPREAD * options.random.fraction()
    await options.clock.sleep(POLL_MS * spread, signal)
  }
}

/** Only for the operator's list of agents, so nothing depends on its success. */
async function tellVersion(
  connection: Connection,
  { agentVersion, log }: StepOptions,
  signal: AbortSignal,
): Promise<void> {
  const request = { agentVersion, currentBundleSerial: 0n }
  try {
    await connection.call((done) => connection.agents.postStatus(request, done), signal)
  } catch (error) {
    signal.throwIfAborted()
    log.debug({ reason: (error as Error).message }, 'sentry did not take the version')
  }
}

import { status } from '@grpc/grpc-js'
import type { Clock } from '../../platform/clock.js'
import type { Bundle, Entry } from '../../proto/gen/spire/api/types/types.js'
import type { TrustDomain } from '../../spiffe/index.js'
import { AgentError } from '../errors.js'
import type { HeldEntry } from '../identities/identities.js'
import type { Update } from '../identities/update.js'
import { within } from '../waits.js'
import type { Connection } from './connection.js'
import type { UpdateReader } from './read-update.js'
import { statusOf } from './refusal.js'
import { syncEntries } from './sync-entries.js'

export interface PollOptions {
  readonly clock: Clock
  readonly trustDomain: TrustDomain
  readonly entries: () => readonly HeldEntry[]
  readonly read: UpdateReader
}

/** For the entries and all bundles of one round together. */
const ROUND_TIMEOUT_MS = 30_000
const BUNDLES_AT_ONCE = 10

/** Fetches everything the agent may hold, as SPIRE's agent does. Throws what the calls throw. */
export async function poll(
  connection: Connection,
  options: PollOptions,
  signal: AbortSignal,
): Promise<Update> {
  const expired = () => new AgentError('CS_SENTRY_UNAVAILABLE', 'sentry did not answer in time')
  return await within({ clock: options.clock, ms: ROUND_TIMEOUT_MS, signal, expired }, (limit) =>
    pollOnce(connection, options, limit),
  )
}

async function pollOnce(
  connection: Connection,
  { entries, read, trustDomain }: PollOptions,
  signal: AbortSignal,
): Promise<Update> {
  const synced = await syncEntries(connection, entries(), signal)
  const own = await connection.call<Bundle>(
    (done) => connection.bundles.getBundle({ outputMask: undefined }, done),
    signal,
  )
  const changed = read({ full: true, entries: synced.changed as Entry[] })
  const all = [...synced.unchanged, ...changed.entries]
  const federated = await federatedBundles(connection, namesIn(all, trustDomain), signal)
  return { ...read({ full: true, bundles: [own, ...federated] }), entries: all }
}

function namesIn(entries: readonly HeldEntry[], own: TrustDomain): readonly TrustDomain[] {
  const names = new Set(entries.flatMap(({ federatesWith }) => federatesWith))
  names.delete(own)
  return [...names]
}

async function federatedBundles(
  connection: Connection,
  names: readonly TrustDomain[],
  signal: AbortSignal,
): Promise<readonly Bundle[]> {
  const found: Bundle[] = []
  for (let at = 0; at < names.length; at += BUNDLES_AT_ONCE) {
    const some = names.slice(at, at + BUNDLES_AT_ONCE)
    const bundles = await Promise.all(some.map((name) => federatedBundle(connection, name, signal)))
    found.push(...bundles.filter((bundle) => bundle !== undefined))
  }
  return found
}

/** Undefined for a bundle that the sentry does not have yet. */
async function federatedBundle(
  connection: Connection,
  trustDomain: TrustDomain,
  signal: AbortSignal,
): Promise<Bundle | undefined> {
  try {
    return await connection.call<Bundle>(
      (done) => connection.bundles.getFederatedBundle({ trustDomain, outputMask: undefined }, done),
      signal,
    )
  } catch (error) {
    if (statusOf(error) === status.NOT_FOUND) return undefined
    throw error
  }
}

import { exponentialBackoff } from '../../platform/backoff.js'
import type { Clock } from '../../platform/clock.js'
import type { Log } from '../../platform/log.js'
import type { Random } from '../../platform/random.js'
import type { TrustDomain } from '../../spiffe/index.js'
import type { AgentError } from '../errors.js'
import type { HeldBundle } from '../identities/held.js'
import { trustJudge } from '../identities/trust.js'
import { alarmOn } from '../waits.js'
import { renew } from './attest.js'
import type { Connection } from './connection.js'
import { requestKey } from './csr.js'
import type { Dialler } from './dialling.js'
import type { Line } from './line.js'
import {
  hasExpired,
  type OwnIdentity,
  type OwnIdentityStore,
  readOwnIdentity,
} from './own-identity.js'
import { endsOwnSvid } from './refusal.js'

export interface OwnRenewalOptions {
  readonly trustDomain: TrustDomain
  readonly store: OwnIdentityStore
  readonly heldBundle: (trustDomain: TrustDomain) => HeldBundle | undefined
  readonly line: Line
  readonly dialAny: Dialler
  /** Takes a connection that presents the new SVID in place of the one in use. */
  readonly handOver: (connection: Connection) => void
  readonly onFailure: (error: Error) => void
  /** The sentry does not accept the SVID in hand any more. */
  readonly onRefused: (error: AgentError) => void
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Keeps the agent's own SVID fresh. */
export interface OwnRenewal {
  /** There is a connection again, on which a renewal that is overdue can be made. */
  connected(): void
  bundleChanged(): void
  run(signal: AbortSignal): Promise<void>
}

const RETRY = { firstMs: 2_000, maxMs: 60_000 }

/**
 * Renews at the moment that was drawn with the SVID, or at once when our bundle no longer stands by
 * its issuer. The old connection is used until one with the new SVID is up: the first use of the new
 * SVID is the end of the old one.
 */
export function ownRenewal(options: OwnRenewalOptions): OwnRenewal {
  const { store, line, clock, random, trustDomain, log } = options
  const alarm = alarmOn(clock)
  const retry = exponentialBackoff({ ...RETRY, random })
  let distrusted = false

  return {
    connected: alarm.ring,
    bundleChanged() {
      const own = store.current()
      const bundle = options.heldBundle(trustDomain)
      if (!own || !bundle) return
      distrusted = !trustJudge(bundle, clock.now().getTime())(own.svid)
      if (distrusted) alarm.ring()
    },
    async run(signal) {
      while (!signal.aborted) {
        const wait = await attempt(signal)
        await alarm.wait(wait, signal).catch(() => undefined)
      }
    },
  }

  /** Does what is due and says how long nothing will be. */
  async function attempt(signal: AbortSignal): Promise<number> {
    try {
      if (isDue()) await renewNow(signal)
      const own = store.current()
      if (own && isBehind(own)) options.handOver(await options.dialAny(own.svid, signal))
      retry.reset()
      return untilDue()
    } catch (error) {
      if (signal.aborted) return 0
      const { message } = error as Error
      log.warn({ reason: message }, "the agent's own SVID could not be renewed")
      if (endsOwnSvid(error)) options.onRefused(error)
      else options.onFailure(error as Error)
      return retry.nextMs()
    }
  }

  /** What is overdue waits for a connection, which rings. */
  function untilDue(): number {
    const left = (store.current()?.renewAt ?? 0) - clock.now().getTime()
    return left > 0 ? left : Number.POSITIVE_INFINITY
  }

  function isDue(): boolean {
    const own = store.current()
    const now = clock.now().getTime()
    if (!own || hasExpired(own, now) || !line.current()) return false
    return distrusted || own.renewAt <= now
  }

  /** Whether the connection in use presents an SVID that has a successor. */
  function isBehind({ svid }: OwnIdentity): boolean {
    const connection = line.current()
    return connection !== undefined && connection.identity !== svid
  }

  async function renewNow(signal: AbortSignal): Promise<void> {
    const key = await requestKey()
    const connection = await line.whenOpen(signal)
    const svid = await renew(connection, key.csr, signal)
    const now = clock.now().getTime()
    const own = readOwnIdentity(svid, { key, trustDomain, now, random })
    await store.keep(own)
    distrusted = false
    log.info({ agent: own.svid.id, renewAt: new Date(own.renewAt) }, 'renewed the own SVID')
  }
}

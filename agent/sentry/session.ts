import { exponentialBackoff } from '../../platform/backoff.js'
import type { Clock } from '../../platform/clock.js'
import type { Log } from '../../platform/log.js'
import type { Random } from '../../platform/random.js'
import type { BundleSource, TrustDomain } from '../../spiffe/index.js'
import type { HeldBundle } from '../identities/held.js'
import { childOf } from '../waits.js'
import type { Evidence } from './attest.js'
import type { Connection } from './connection.js'
import { stickyDialler } from './dialling.js'
import { type FirstContact, firstContact } from './first-contact.js'
import { type Issuer, issuerOn } from './issuer.js'
import { sentryLine } from './line.js'
import type { OwnIdentityStore } from './own-identity.js'
import { ownRenewal } from './own-renewal.js'
import { endsOwnSvid, refusalOf } from './refusal.js'
import { type Standing, sentryStanding } from './standing.js'
import { type StepOptions, stayInStep } from './step.js'

export interface SessionOptions extends Omit<StepOptions, 'onSynced' | 'clock' | 'random'> {
  readonly trustDomain: TrustDomain
  /** At least one, as `host:port`. */
  readonly addresses: readonly string[]
  /** What the agent trusts, asked at each handshake. */
  readonly bundles: BundleSource
  readonly heldBundle: (trustDomain: TrustDomain) => HeldBundle | undefined
  readonly store: OwnIdentityStore
  readonly evidence: Evidence | undefined
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** The standing with the sentry has changed. */
  readonly onChange: () => void
}

/** The agent's dealings with its sentries: one at a time, for as long as the agent runs. */
export interface Session extends Issuer {
  readonly standing: Omit<Standing, 'synced' | 'report' | 'serverTime'>
  /** Our own bundle has changed: the agent's SVID may have to be renewed at once. */
  bundleChanged(): void
  /** Stays in step and keeps the agent's SVID fresh until `signal` aborts, which is the only way it ends. */
  run(signal: AbortSignal): Promise<void>
}

const REDIAL = { firstMs: 1_000, maxMs: 10_000 }
/** After a refusal that only new evidence or an operator can undo. */
const REFUSED = { firstMs: 5_000, maxMs: 240_000 }
/** When a sentry goes away its agents come back over this time, not all at once. */
const REDIAL_SPREAD_MS = 1_000

export function sentrySession(options: SessionOptions): Session {
  const { clock, random, log } = options
  const standing = sentryStanding(options)
  const dialAny = stickyDialler({ ...options, onServerTime: standing.serverTime })
  const contact = firstContact({ ...options, dialAny })
  const line = sentryLine()
  const redial = exponentialBackoff({ ...REDIAL, random })
  const refused = exponentialBackoff({ ...REFUSED, random })
  let inStint = false
  let endStint: (reason: Error) => void = () => {}
  /** Already up, to take the place of the connection in use. */
  let successor: Connection | undefined

  const renewal = ownRenewal({
    ...options,
    line,
    dialAny,
    onFailure: standing.report,
    onRefused: (error) => endStint(error),
    handOver(connection) {
      if (!inStint) return connection.close()
      successor = connection
      line.opened(connection)
      endStint(new HandedOver())
    },
  })

  return {
    ...issuerOn(line, { onRefused: (error) => endStint(error) }),
    standing,
    bundleChanged: renewal.bundleChanged,
    async run(signal) {
      await Promise.all([stayConnected(signal), renewal.run(signal)])
    },
  }

  async function stayConnected(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const before = standing.lastSyncAt()
      try {
        await stint(signal)
      } catch (error) {
        if (!signal.aborted) await afterFailure(error as Error, before, signal)
      }
    }
    line.failed(signal.reason as Error)
    successor?.close()
  }

  /** One connection, from its beginning to its end. */
  async function stint(signal: AbortSignal): Promise<void> {
    const connection = successor ?? (await open(contact, signal))
    successor = undefined
    using limit = childOf(signal)
    endStint = (reason) => {
      inStint = false
      limit.controller.abort(reason)
    }
    inStint = true
    line.opened(connection)
    renewal.connected()
    try {
      const onSynced = () => {
        redial.reset()
        refused.reset()
        standing.synced()
      }
      await stayInStep(connection, { ...options, onSynced }, limit.signal)
    } catch (error) {
      if (!(error instanceof HandedOver)) throw refusalOf(error)
    } finally {
      inStint = false
      endStint = () => {}
      connection.close()
    }
  }

  async function open(first: FirstContact, signal: AbortSignal): Promise<Connection> {
    line.dialling()
    const own = await first.usableIdentity(signal)
    return await dialAny(own.svid, signal)
  }

  async function afterFailure(
    error: Error,
    lastSync: number | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const hadWorked = standing.lastSyncAt() !== lastSync
    standing.report(error)
    if (endsOwnSvid(error)) {
      line.failed(error)
      const mendable = await contact.refused(error)
      if (!mendable) await pause(refused.nextMs(), signal)
    } else if (hadWorked) {
      line.dialling()
      await pause(random.fraction() * REDIAL_SPREAD_MS, signal)
    } else {
      line.failed(error)
      await pause(redial.nextMs(), signal)
    }
  }

  async function pause(ms: number, signal: AbortSignal): Promise<void> {
    log.debug({ ms: Math.round(ms) }, 'waiting before the next try')
    await clock.sleep(ms, signal).catch(() => undefined)
  }
}

/** Ends a stint whose successor is up. */
class HandedOver extends Error {
  override readonly name = 'HandedOver'
}

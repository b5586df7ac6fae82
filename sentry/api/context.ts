import type { Clock } from '../../platform/clock.js'
import type { Log } from '../../platform/log.js'
import type { Random } from '../../platform/random.js'
import type { SpiffeId, TrustDomain } from '../../spiffe/index.js'
import type { Attestor } from '../attestation/attestor.js'
import type { AuditLog } from '../audit/audit-log.js'
import type { Datastore } from '../datastore/datastore.js'
import { SentryError } from '../errors.js'
import type { IssuePipeline } from '../issue.js'
import type { SentryMetrics } from '../metrics.js'
import type { AuthorizedEntries } from '../registration/authorized.js'
import type { Caller } from './caller.js'
import type { ServiceLimits } from './service-limits.js'

/** In seconds. */
export interface SvidLifetimes {
  readonly x509Svid: number
  readonly jwtSvid: number
  readonly agentSvid: number
}

/** What the services work with. */
export interface ApiContext {
  readonly trustDomain: TrustDomain
  readonly datastore: Datastore
  readonly authorized: AuthorizedEntries
  readonly pipeline: IssuePipeline
  readonly attestors: ReadonlyMap<string, Attestor>
  readonly lifetimes: SvidLifetimes
  readonly limits: ServiceLimits
  readonly audit: AuditLog
  readonly metrics: SentryMetrics
  /** Aborts, with `CS_SHUTTING_DOWN`, when the sentry stops. */
  readonly stopping: AbortSignal
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** The ID of a caller that was admitted as an agent. */
export function agentIdOf(caller: Caller): SpiffeId {
  if (caller.kind === 'identified') return caller.id
  throw new SentryError('CS_CALLER_NOT_ALLOWED', 'caller is not an agent')
}

import type { Clock } from '../platform/clock.js'
import type { Log } from '../platform/log.js'
import type { Random } from '../platform/random.js'
import type { PeerVerifier } from '../spiffe/index.js'
import type { AccessLog } from './access-log.js'
import type { OpenConnections } from './connections.js'
import type { Deadlines } from './deadlines.js'
import type { IdentitySource } from './identity.js'
import type { PolicySource } from './inbound-gate.js'
import type { Limits } from './limits.js'
import type { ProxyMetrics } from './metrics.js'

/** What all tunnels of one sidecar share. */
export interface ProxyContext {
  readonly identity: IdentitySource
  readonly verifier: PeerVerifier
  readonly policy: PolicySource
  readonly connections: OpenConnections
  readonly limits: Limits
  readonly deadlines: Deadlines
  readonly accessLog: AccessLog
  readonly metrics: ProxyMetrics
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** A new id for a decision: short, and unique among all proxies. */
  nextId(): string
}

/** Ids with a random beginning and a count: as unique as random ones, and much cheaper. */
export function decisionIds(random: Random): () => string {
  const prefix = Buffer.from(random.bytes(6)).toString('hex')
  let count = 0
  return () => {
    count += 1
    return `${prefix}-${count.toString(36)}`
  }
}

import type { Metrics } from '../platform/metrics.js'
import type { LocalSockets } from './agent.js'
import type { Held } from './identities/held.js'
import type { KeptIdentities } from './identities/keep.js'
import type { X509KeeperOptions } from './identities/x509-keeper.js'

/** Figures that are read from the agent's state whenever somebody scrapes them. */
export function watchAgent(metrics: Metrics, identities: KeptIdentities): void {
  const seconds = (ms: number | undefined) => (ms === undefined ? 0 : ms / 1000)
  const gauges = {
    countersign_agent_connected: [
      'Whether the agent is in step with a sentry',
      () => Number(identities.status().connected),
    ],
    countersign_agent_last_sync_timestamp_seconds: [
      'When the agent was last told something by a sentry',
      () => seconds(identities.status().lastSyncAt),
    ],
    countersign_agent_svid_expiry_timestamp_seconds: [
      "End of the agent's own SVID",
      () => seconds(identities.status().svidExpiresAt),
    ],
    countersign_agent_entries: [
      'Registration entries the agent may issue for',
      () => identities.status().entries,
    ],
    countersign_workload_api_svid_expiry_timestamp_seconds: [
      'Earliest end among the X.509-SVIDs in hand, 0 while there is none',
      () => seconds(earliestEnd(identities.held())),
    ],
    countersign_agent_x509_svids: ['X.509-SVIDs in hand', () => identities.status().x509Svids],
    countersign_agent_jwt_svids: ['JWT-SVIDs in hand', () => identities.status().jwtSvids],
    countersign_agent_change_log_position: [
      "Position in the sentry's change log that has been applied",
      () => Number(identities.status().sequence),
    ],
  } as const satisfies Record<`countersign_${string}`, readonly [string, () => number]>

  for (const [name, [help, read]] of Object.entries(gauges)) {
    metrics.gauge({
      name: name as keyof typeof gauges,
      help,
      collect: (gauge) => gauge.set(read()),
    })
  }
}

function earliestEnd({ svids }: Held): number | undefined {
  let earliest: number | undefined
  for (const { expiresAt } of svids.values()) earliest = Math.min(expiresAt, earliest ?? expiresAt)
  return earliest
}

/** What the local sockets tell about themselves. */
export function watchSockets(metrics: Metrics, sockets: LocalSockets | undefined): void {
  metrics.gauge({
    name: 'countersign_workload_api_streams',
    help: 'Streams that workloads hold open on the local sockets',
    collect: (gauge) => gauge.set(sockets?.streams?.() ?? 0),
  })
  metrics.gauge({
    name: 'countersign_workload_api_connections',
    help: 'Connections of workloads to the local sockets',
    collect: (gauge) => gauge.set(sockets?.connections?.() ?? 0),
  })
  const refusals = metrics.counter({
    name: 'countersign_workload_api_refusals_total',
    help: 'Calls, streams and connections on the local sockets that were refused, by reason code',
    labels: ['reason'],
  })
  sockets?.onRefusal?.((reason) => refusals.inc({ reason }))
}

/** Counts what became of requests for X.509-SVIDs. */
export function countBatches(metrics: Metrics): NonNullable<X509KeeperOptions['onBatch']> {
  const counter = metrics.counter({
    name: 'countersign_agent_x509_svid_requests_total',
    help: 'X.509-SVIDs issued, refused one by one, and calls for them that failed',
    labels: ['result'],
  })
  return (result, count) => counter.inc({ result }, count)
}

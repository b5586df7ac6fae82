import type { Metrics } from '../platform/metrics.js'
import type { Decision } from '../policies/index.js'
import type { CloseReason } from './exchange.js'
import { histogramFamily } from './histogram.js'

const CODE_CLASSES = ['none', '1xx', '2xx', '3xx', '4xx', '5xx'] as const
const REQUEST_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30]
const OVERHEAD_BUCKETS = [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.1]
const NANOSECONDS = 1e-9

/** What the sidecar counts. Labels come from configuration and closed lists, never from a caller. */
export type ProxyMetrics = ReturnType<typeof proxyMetrics>

export function proxyMetrics(metrics: Metrics) {
  return {
    ...histogramsOfProxy(metrics),
    connections: metrics.counter({
      name: 'countersign_proxy_connections_total',
      help: 'Connections accepted, by whether the peer proved who it is.',
      labels: ['tunnel', 'direction', 'result'],
    }),
    open: metrics.gauge({
      name: 'countersign_proxy_connections_open',
      help: 'Connections that are open now.',
      labels: ['tunnel', 'direction'],
    }),
    handshakeFailures: metrics.counter({
      name: 'countersign_proxy_handshake_failures_total',
      help: 'TLS handshakes that failed, and peers that were refused after one.',
      labels: ['tunnel', 'reason'],
    }),
    requests: metrics.counter({
      name: 'countersign_proxy_mtls_requests_total',
      help: 'Requests and TCP connections, by whether the other side is a verified peer.',
      labels: ['tunnel', 'secure'],
    }),
    bytes: metrics.counter({
      name: 'countersign_proxy_bytes_total',
      help: 'Bytes of bodies and TCP connections.',
      labels: ['tunnel', 'direction'],
    }),
    closed: metrics.counter({
      name: 'countersign_proxy_closed_total',
      help: 'Requests and connections that ended in another way than they should, by reason.',
      labels: ['tunnel', 'reason'],
    }),
    decisions: metrics.counter({
      name: 'countersign_authz_decisions_total',
      help: 'Decisions of the policy.',
      labels: ['target', 'caller_ns', 'policy', 'rule', 'decision', 'reason'],
    }),
    malformed: metrics.counter({
      name: 'countersign_authz_malformed_total',
      help: 'Requests refused because they can be read in more than one way, or in none.',
      labels: ['code'],
    }),
    shadowDiff: metrics.counter({
      name: 'countersign_authz_shadow_diff_total',
      help: 'Requests that shadow rules would have decided otherwise.',
      labels: ['policy', 'rule', 'direction'],
    }),
    snapshotInfo: metrics.gauge({
      name: 'countersign_authz_snapshot_info',
      help: 'The policy snapshot in force; its value is the generation.',
      labels: ['id'],
    }),
    terminated: metrics.counter({
      name: 'countersign_authz_tcp_terminated_total',
      help: 'Open connections that were closed because they would not be let through any more.',
      labels: ['tunnel', 'reason'],
    }),
    svidExpiry: metrics.gauge({
      name: 'countersign_proxy_svid_expiry_timestamp_seconds',
      help: 'When the own SVID expires.',
      labels: ['trust_domain'],
    }),
  }
}

function histogramsOfProxy(metrics: Metrics) {
  return {
    handshakeSeconds: histogramFamily({
      metrics,
      labels: ['tunnel'],
      name: 'countersign_proxy_handshake_seconds',
      help: 'From the accepted connection to the verified peer.',
      buckets: REQUEST_BUCKETS,
    }),
    requestSeconds: histogramFamily({
      metrics,
      labels: ['tunnel', 'code'],
      name: 'countersign_proxy_request_seconds',
      help: 'From the head of a request to the end of its response.',
      buckets: REQUEST_BUCKETS,
    }),
    upstreamSeconds: histogramFamily({
      metrics,
      labels: ['tunnel', 'code'],
      name: 'countersign_proxy_upstream_seconds',
      help: 'From the decision to the head of the response.',
      buckets: REQUEST_BUCKETS,
    }),
    overheadSeconds: histogramFamily({
      metrics,
      labels: ['tunnel', 'code'],
      name: 'countersign_proxy_overhead_seconds',
      help: 'The part of a request that was not spent waiting for the head of the response.',
      buckets: OVERHEAD_BUCKETS,
    }),
    decisionSeconds: histogramFamily({
      metrics,
      labels: ['tunnel'],
      name: 'countersign_authz_seconds',
      help: 'Time to canonicalise a request and to decide on it.',
      buckets: [0.000001, 0.0000025, 0.000005, 0.00001, 0.000025, 0.0001, 0.001],
    }),
  }
}

/** Times of one request, in nanoseconds; without an answer the last two are 0. */
export interface RequestTimes {
  readonly total: number
  readonly deciding: number
  readonly upstream: number
}

/** What protects a request on its way between workloads. */
export type Secure = 'mtls' | 'unauthenticated'

/** The counting of one tunnel. What happens with every request is added up here and handed on now and then. */
export interface TunnelMeter {
  request(status: number, times: RequestTimes): void
  /** One request or TCP connection. */
  secure(how: Secure): void
  bytes(received: number, sent: number): void
  decision(decision: Decision, callerNamespace: string): void
  /** A request refused for its form, by what is wrong with it. */
  malformed(code: string): void
  ended(how: CloseReason): void
  flush(): void
}

export interface MeterOptions {
  readonly metrics: ProxyMetrics
  readonly tunnel: string
  /** What the tunnel is for; SPIFFE ID of the app. */
  readonly target: () => string
}

export function tunnelMeter({ metrics, tunnel, target }: MeterOptions): TunnelMeter {
  const timers = CODE_CLASSES.map((code) => ({
    total: metrics.requestSeconds.with({ tunnel, code }),
    upstream: metrics.upstreamSeconds.with({ tunnel, code }),
    overhead: metrics.overheadSeconds.with({ tunnel, code }),
  }))
  const decisionTimer = metrics.decisionSeconds.with({ tunnel })
  const decisions = new Map<string, Map<Decision, number>>()
  const secured = { mtls: 0, unauthenticated: 0 }
  let received = 0
  let sent = 0

  return {
    request(status, { total, deciding, upstream }) {
      const timer = timers[Math.floor(status / 100)] ?? timers[0]
      timer?.total.observe(total * NANOSECONDS)
      if (deciding > 0) decisionTimer.observe(deciding * NANOSECONDS)
      if (upstream === 0) return
      timer?.upstream.observe(upstream * NANOSECONDS)
      timer?.overhead.observe((total - upstream) * NANOSECONDS)
    },
    secure(how) {
      secured[how] += 1
    },
    bytes(more, out) {
      received += more
      sent += out
    },
    malformed: (code) => metrics.malformed.inc({ code }),
    decision(decision, callerNamespace) {
      const { shadow } = decision
      if (shadow?.direction !== undefined) {
        const { policy, rule, direction } = shadow
        metrics.shadowDiff.inc({ policy, rule, direction })
      }
      let tally = decisions.get(callerNamespace)
      if (!tally) {
        tally = new Map()
        decisions.set(callerNamespace, tally)
      }
      tally.set(decision, (tally.get(decision) ?? 0) + 1)
    },
    ended(how) {
      if (how !== 'complete') metrics.closed.inc({ tunnel, reason: how })
    },
    flush() {
      if (received > 0) metrics.bytes.inc({ tunnel, direction: 'in' }, received)
      if (sent > 0) metrics.bytes.inc({ tunnel, direction: 'out' }, sent)
      received = 0
      sent = 0
      for (const secure of ['mtls', 'unauthenticated'] as const) {
        if (secured[secure] > 0) metrics.requests.inc({ tunnel, secure }, secured[secure])
        secured[secure] = 0
      }
      for (const [caller_ns, tally] of decisions) {
        for (const [decision, count] of tally) {
          metrics.decisions.inc({ target: target(), caller_ns, ...labelsOf(decision) }, count)
        }
        tally.clear()
      }
    },
  }
}

function labelsOf(decision: Decision) {
  const { policy, rule } = 'rule' in decision ? decision : { policy: '', rule: '' }
  return { policy, rule, decision: decision.effect, reason: decision.reason }
}

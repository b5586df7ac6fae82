import type { Metrics } from '../platform/metrics.js'

/** What the sentry counts. Label values come from closed lists: reason codes, attestor types, SVID types. */
export interface SentryMetrics {
  /** `vouchedBy`: `registration`, `node` or `administrator`. */
  issued(svid: { readonly type: SvidType; readonly vouchedBy: string }): void
  issueFailed(svid: { readonly type: SvidType; readonly reason: string }): void
  issueTook(seconds: number): void
  attestationFailed(attempt: { readonly attestor: string; readonly reason: string }): void
  /** From a change to the agent's acknowledgement. */
  propagated(seconds: number): void
  authorityExpires(authority: { readonly name: string; readonly at: number }): void
}

export type SvidType = 'x509' | 'jwt'

const ISSUE_BUCKETS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25]
const PROPAGATION_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 30]

export function sentryMetrics(
  metrics: Metrics,
  options: { readonly trustDomain: string; readonly now: () => Date },
): SentryMetrics {
  const trust_domain = options.trustDomain
  const issued = metrics.counter({
    name: 'countersign_svid_issued_total',
    help: 'SVIDs that were issued.',
    labels: ['svid_type', 'attestor', 'trust_domain'],
  })
  const failures = metrics.counter({
    name: 'countersign_svid_issue_failures_total',
    help: 'SVIDs that were asked for and not issued, by reason code.',
    labels: ['svid_type', 'reason'],
  })
  const duration = metrics.histogram({
    name: 'countersign_svid_issue_duration_seconds',
    help: 'Time to settle, sign and check one SVID.',
    buckets: ISSUE_BUCKETS,
  })
  const attestations = metrics.counter({
    name: 'countersign_attestation_failures_total',
    help: 'Attestations of nodes that were refused, by reason code.',
    labels: ['attestor', 'reason'],
  })
  const propagation = metrics.histogram({
    name: 'countersign_entry_propagation_seconds',
    help: 'Time from a change to the acknowledgement of an agent that it concerns.',
    buckets: PROPAGATION_BUCKETS,
  })
  const expiry = metrics.gauge({
    name: 'countersign_ca_expiry_timestamp_seconds',
    help: 'When the certificate or key of an authority ends.',
    labels: ['authority'],
  })
  // Looking a counter up by its labels costs as much as the rest of counting.
  const children = new Map<string, ReturnType<typeof issued.labels>>()
  const expiries = new Map<string, number>()
  metrics.gauge({
    name: 'countersign_ca_expiry_remaining_seconds',
    help: 'How long the certificate or key of an authority still lasts.',
    labels: ['authority'],
    collect(gauge) {
      const now = options.now().getTime()
      for (const [authority, at] of expiries) gauge.set({ authority }, (at - now) / 1000)
    },
  })
  return {
    issued({ type, vouchedBy }) {
      const key = `${type} ${vouchedBy}`
      const held = children.get(key)
      const child = held ?? issued.labels({ svid_type: type, attestor: vouchedBy, trust_domain })
      if (!held) children.set(key, child)
      child.inc()
    },
    issueFailed: ({ type, reason }) => failures.inc({ svid_type: type, reason }),
    issueTook: (seconds) => duration.observe(seconds),
    attestationFailed: ({ attestor, reason }) => attestations.inc({ attestor, reason }),
    propagated: (seconds) => propagation.observe(seconds),
    authorityExpires({ name, at }) {
      expiries.set(name, at)
      expiry.set({ authority: name }, at / 1000)
    },
  }
}

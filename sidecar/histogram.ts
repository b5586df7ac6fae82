import type { Metrics } from '../platform/metrics.js'

/** Counts values in buckets. A value costs a few comparisons, so every request can be counted in several. */
export interface Histogram {
  observe(value: number): void
}

export interface HistogramOptions<Label extends string> {
  readonly metrics: Metrics
  readonly name: `countersign_${string}`
  readonly help: string
  readonly labels: readonly Label[]
  /** Upper ends, ascending. */
  readonly buckets: readonly number[]
}

/** Histograms of one name, told apart by labels. */
export interface HistogramFamily<Label extends string> {
  with(labels: Readonly<Record<Label, string>>): Histogram
}

interface Series<Label extends string> {
  readonly labels: Readonly<Record<Label, string>>
  readonly counts: Float64Array
  sum: number
}

/**
 * Publishes the three series that a Prometheus histogram consists of when they are asked for; prom-client
 * would look the labels up with every value, which costs more than the rest of the counting together.
 */
export function histogramFamily<Label extends string>(
  options: HistogramOptions<Label>,
): HistogramFamily<Label> {
  const { buckets } = options
  const all: Series<Label>[] = []
  publish(options, all)
  return {
    with(labels) {
      const series = { labels, counts: new Float64Array(buckets.length + 1), sum: 0 }
      const { counts } = series
      all.push(series)
      return {
        observe(value) {
          let at = 0
          while (at < buckets.length && value > (buckets[at] ?? 0)) at += 1
          counts[at] = (counts[at] ?? 0) + 1
          series.sum += value
        },
      }
    },
  }
}

function publish<Label extends string>(
  { metrics, name, help, labels, buckets }: HistogramOptions<Label>,
  all: readonly Series<Label>[],
): void {
  metrics.gauge<Label | 'le'>({
    name: `${name}_bucket`,
    help,
    labels: [...labels, 'le'],
    collect(gauge) {
      for (const { labels, counts } of all) {
        let total = 0
        counts.forEach((count, at) => {
          total += count
          gauge.set({ ...labels, le: String(buckets[at] ?? '+Inf') }, total)
        })
      }
    },
  })
  metrics.gauge({
    name: `${name}_sum`,
    help,
    labels,
    collect(gauge) {
      for (const { labels, sum } of all) gauge.set(labels, sum)
    },
  })
  metrics.gauge({
    name: `${name}_count`,
    help,
    labels,
    collect(gauge) {
      for (const { labels, counts } of all) gauge.set(labels, counts.reduce(sum, 0))
    },
  })
}

const sum = (left: number, right: number) => left + right

/** Counts values in buckets. A value costs a few comparisons, so every request can be counted in several. */
export interface Histogram {
  observe(value: number): void
}

export interface HistogramOptions {
  readonly name: `countersign_${string}`
  readonly help: string
  /** Upper ends, ascending. */
  readonly buckets: readonly number[]
}

/** Histograms of one name, told apart by labels, in the text format of Prometheus. */
export interface HistogramFamily {
  /** The same histogram for the same labels. */
  with(labels: Readonly<Record<string, string>>): Histogram
  text(): string
}

interface Series {
  readonly counts: Float64Array
  sum: number
}

export function histogramFamily({ name, help, buckets }: HistogramOptions): HistogramFamily {
  const all = new Map<string, Series>()
  const bounds = Float64Array.from(buckets)

  return {
    with(labels) {
      const key = Object.entries(labels)
        .map(([label, value]) => `${label}=${JSON.stringify(value)}`)
        .join(',')
      const series = all.get(key) ?? { counts: new Float64Array(bounds.length + 1), sum: 0 }
      all.set(key, series)
      return {
        observe(value) {
          let at = 0
          while (at < bounds.length && value > (bounds[at] ?? 0)) at += 1
          series.counts[at] = (series.counts[at] ?? 0) + 1
          series.sum += value
        },
      }
    },
    text() {
      const lines = [...all].flatMap(([labels, series]) =>
        linesOf({ name, labels, bounds, series }),
      )
      return [`# HELP ${name} ${help}`, `# TYPE ${name} histogram`, ...lines, ''].join('\n')
    },
  }
}

function linesOf(options: {
  readonly name: string
  readonly labels: string
  readonly bounds: Float64Array
  readonly series: Series
}): string[] {
  const { name, labels, bounds, series } = options
  const comma = labels === '' ? '' : ','
  let total = 0
  const lines = [...series.counts].map((count, at) => {
    total += count
    return `${name}_bucket{${labels}${comma}le="${bounds[at] ?? '+Inf'}"} ${total}`
  })
  const braces = labels === '' ? '' : `{${labels}}`
  return [...lines, `${name}_sum${braces} ${series.sum}`, `${name}_count${braces} ${total}`]
}

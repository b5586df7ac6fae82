import { Counter, Gauge, Histogram, Registry } from 'prom-client'

/** Label values come from closed lists or configured names: a caller's ID is never one. */
export interface MetricOptions<Label extends string> {
  readonly name: `countersign_${string}`
  readonly help: string
  readonly labels?: readonly Label[]
}

/** Where a component keeps its metrics; `text()` is what Prometheus scrapes. */
export interface Metrics {
  counter<Label extends string = never>(options: MetricOptions<Label>): Counter<Label>
  gauge<Label extends string = never>(
    options: MetricOptions<Label> & { readonly collect?: (gauge: Gauge<Label>) => void },
  ): Gauge<Label>
  histogram<Label extends string = never>(
    options: MetricOptions<Label> & { readonly buckets: readonly number[] },
  ): Histogram<Label>
  text(): Promise<string>
  readonly contentType: string
}

export function createMetrics(): Metrics {
  const registry = new Registry()
  const registers = [registry]
  const base = <Label extends string>({ name, help, labels = [] }: MetricOptions<Label>) => ({
    name,
    help,
    labelNames: [...labels],
    registers,
  })
  return {
    counter: (options) => new Counter(base(options)),
    gauge: (options) => {
      const { collect } = options
      return new Gauge({
        ...base(options),
        ...(collect && {
          collect() {
            collect(this)
          },
        }),
      })
    },
    histogram: (options) => new Histogram({ ...base(options), buckets: [...options.buckets] }),
    text: () => registry.metrics(),
    contentType: registry.contentType,
  }
}

import fc from 'fast-check'
import { test as vitest } from 'vitest'

/** How often each property is tried. CI sets it higher than a run at the desk. */
export const RUNS = Number(process.env['COUNTERSIGN_PROPERTY_RUNS'] ?? 0)

/** A test of a sentence for many values. `runs` is the least number of tries. */
export function test<Values extends readonly unknown[]>(
  name: string,
  values: { readonly [K in keyof Values]: fc.Arbitrary<Values[K]> },
  check: (...values: Values) => void,
  runs = 2_000,
): void {
  vitest(
    name,
    () => {
      const property = fc.property(
        fc.tuple(...(values as unknown as fc.Arbitrary<unknown>[])),
        (tuple) => check(...(tuple as unknown as Values)),
      )
      fc.assert(property, { numRuns: Math.max(runs, RUNS) })
    },
    300_000,
  )
}

export { fc }

import fc from 'fast-check'
import { test as vitest } from 'vitest'

/** CI tries each property more often than a run at the desk does. */
const FACTOR = process.env['COUNTERSIGN_TEST_ALL'] === undefined ? 1 : 4

/** A test of a sentence for many values. `runs` is the number of tries at the desk. */
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
      fc.assert(property, { numRuns: runs * FACTOR })
    },
    300_000,
  )
}

export { fc }

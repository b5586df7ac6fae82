import type { TableSpec } from '../../../sentry/datastore/table.js'

export interface Counter {
  readonly name: string
  readonly value: number
}

export const counters: TableSpec<Counter> = {
  kind: 'counter',
  indexes: [],
  keyOf: ({ name }) => name,
  termsOf: () => [],
  encode: (counter) => JSON.stringify(counter),
  decode: (payload) => JSON.parse(payload) as Counter,
}

import { writeSync } from 'node:fs'
import { systemClock } from '../../../platform/clock.js'
import { silentLog } from '../../../platform/log.js'
import { openDatastore } from '../../../sentry/datastore/datastore.js'
import { openSqlite } from '../../../sentry/datastore/sqlite.js'
import { counters } from './counters.js'

/** Writes for ever, several at once, and prints each write when it is acknowledged. */
const [path = ''] = process.argv.slice(2)
const store = await openDatastore({
  dialect: await openSqlite(path),
  tables: [counters],
  trustDomain: 'prod.example',
  clock: systemClock,
  log: silentLog,
})

async function count(name: string): Promise<never> {
  for (;;) {
    const { value, sequence } = await store.write((draft) => {
      const table = draft.table(counters)
      const next = (table.get(name)?.value ?? 0) + 1
      table.put({ name, value: next })
      if (next % 3 === 0) table.put({ name: `${name}-third`, value: next })
      if (next % 7 === 0) table.remove(`${name}-third`)
      return next
    })
    writeSync(1, `${name} ${value} ${sequence}\n`)
  }
}

await Promise.all(['a', 'b', 'c'].map(count))

import { expect, test } from 'vitest'
import { systemClock } from '../../../platform/clock.js'
import { silentLog } from '../../../platform/log.js'
import { openDatastore } from '../../../sentry/datastore/datastore.js'
import { openSqlite } from '../../../sentry/datastore/sqlite.js'
import { buildProgram, runProgram } from '../../support/program.js'
import { seededRandom } from '../../support/seeded-random.js'
import { tempFolder } from '../../support/temp-folder.js'
import { counters } from './counters.js'

const ROUNDS = 5
const seeds = [1, 20261120]

test.each(seeds)(
  'a datastore whose process is killed has every acknowledged write and a log without a gap (seed %i)',
  async (seed) => {
    await using folder = await tempFolder()
    const program = await buildProgram(new URL('./writer.ts', import.meta.url), folder)
    const path = folder.file('sentry.db')
    const random = seededRandom(seed)
    const acknowledged = new Map<string, number>()
    let position = 0

    for (let round = 0; round < ROUNDS; round += 1) {
      await using writer = runProgram(program, [path])
      let left = 1 + Math.floor(random.fraction() * 60)
      for await (const line of writer.lines) {
        const [name = '', value, sequence] = line.split(' ')
        acknowledged.set(name, Number(value))
        position = Math.max(position, Number(sequence))
        left -= 1
        // What it still prints while it dies counts as well.
        if (left === 0) void writer.kill()
      }
      await using store = await openDatastore({
        dialect: await openSqlite(path),
        tables: [counters],
        trustDomain: 'prod.example',
        clock: systemClock,
        log: silentLog,
      })
      expect(store.sequence).toBeGreaterThanOrEqual(position)
      for (const [name, value] of acknowledged) {
        expect(store.view(counters).get(name)?.value).toBeGreaterThanOrEqual(value)
      }
      const log = await store.logAfter(0, Number.MAX_SAFE_INTEGER)
      expect(log.map(({ sequence }) => sequence)).toEqual(log.map((_, index) => index + 1))
      expect(replayed(log)).toEqual(
        new Map([...store.view(counters).values()].map(({ name, value }) => [name, value])),
      )
    }
  },
  120_000,
)

function replayed(log: readonly { key: string; payload: string | null }[]): Map<string, number> {
  const state = new Map<string, number>()
  for (const { key, payload } of log) {
    if (payload === null) state.delete(key)
    else state.set(key, counters.decode(payload).value)
  }
  return state
}

// Writes the state of an agent again and again until it is killed, and says after each write how often.
import { stateSaver } from '../../agent/saver.js'
import { type AgentState, writeState } from '../../agent/state.js'
import { systemClock } from '../../platform/clock.js'
import { silentLog } from '../../platform/log.js'
import { systemRandom } from '../../platform/random.js'
import { openSealer, sealedFile } from '../../platform/sealer.js'
import { testAuthority } from '../support/authority.js'
import { heldEntry, heldState } from './held-values.js'

const [path = '', keyPath = ''] = process.argv.slice(2)
const sealer = await openSealer({ kind: 'key-file', path: keyPath })
const authority = testAuthority('prod.example')
const entries = Array.from({ length: 50 }, (_, at) => heldEntry({ id: `e${at}`, path: `/e${at}` }))
let round = 0
const state = (): AgentState => ({
  trustDomain: authority.trustDomain,
  own: undefined,
  banned: false,
  spentEvidence: [String(round)],
  held,
})
const held = heldState(authority, entries)
const saver = stateSaver({
  file: sealedFile({ path, sealer, context: 'agent state' }),
  state: () => writeState(state()),
  clock: systemClock,
  random: systemRandom,
  log: silentLog,
})

for (;;) {
  round += 1
  await saver.now()
  process.stdout.write(`${round}\n`)
}

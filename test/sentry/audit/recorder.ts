import { writeSync } from 'node:fs'
import { systemClock } from '../../../platform/clock.js'
import { silentLog } from '../../../platform/log.js'
import { systemRandom } from '../../../platform/random.js'
import { openAuditLog } from '../../../sentry/audit/audit-log.js'

/** Records for ever and says so of each record that is on file. */
const [path = ''] = process.argv.slice(2)
const audit = openAuditLog({ path, clock: systemClock, random: systemRandom, log: silentLog })
for (;;) {
  audit.record({ type: 'svid.issued.v1', subject: 'spiffe://prod.example/app' })
  audit.flush()
  writeSync(1, 'recorded\n')
}

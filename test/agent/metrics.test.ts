import { expect, test } from 'vitest'
import { expiryOf } from '../../agent/identities/renewal.js'
import { watchAgent } from '../../agent/metrics.js'
import { createMetrics } from '../../platform/metrics.js'
import { heldEntry } from './held-values.js'
import { kept } from './identities/kept.js'

test('the earliest end of the SVIDs in hand is a figure', async () => {
  await using k = kept()
  const metrics = createMetrics()
  watchAgent(metrics, k.identities)
  const name = 'countersign_workload_api_svid_expiry_timestamp_seconds'
  expect(await metrics.text()).toContain(`${name} 0\n`)

  const [first, second] = [
    heldEntry({ id: 'a', path: '/a' }),
    heldEntry({ id: 'b', path: '/b', createdAt: 2 }),
  ]
  k.tell({ full: true, entries: [first] })
  await k.until(() => k.identities.x509Svid(first) !== undefined)
  const earliest = expiryOf(k.identities.x509Svid(first)!)
  await k.clock.advance(60_000)
  k.tell({ entries: [second] })
  await k.until(() => k.identities.x509Svid(second) !== undefined)
  expect(expiryOf(k.identities.x509Svid(second)!)).toBeGreaterThan(earliest)
  expect(await metrics.text()).toContain(`${name} ${earliest / 1000}\n`)
})

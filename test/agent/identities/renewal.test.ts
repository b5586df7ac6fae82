import fc from 'fast-check'
import { expect, test } from 'vitest'
import { drawMoment, drawRenewal, expiryOf } from '../../../agent/identities/renewal.js'
import { testAuthority } from '../../support/authority.js'
import { seededRandom } from '../../support/seeded-random.js'

const NOW = Date.parse('2026-11-20T12:00:00Z')
const HOUR = 3_600_000
const authority = testAuthority('prod.example', { now: new Date(NOW) })

test('a herd of SVIDs that came together is spread over a fifth of half a life', () => {
  const random = seededRandom(7)
  const moments = Array.from({ length: 1000 }, () => drawMoment({ life: HOUR, now: NOW, random }))
  const minutes = moments.map((moment) => (moment - NOW) / 60_000).sort((a, b) => a - b)
  expect(minutes[0]).toBeGreaterThanOrEqual(27)
  expect(minutes.at(-1)).toBeLessThanOrEqual(33)
  // Uniform: no sixth of the time holds more than twice its share.
  const perMinute = [27, 28, 29, 30, 31, 32].map(
    (from) => minutes.filter((minute) => minute >= from && minute < from + 1).length,
  )
  expect(Math.max(...perMinute)).toBeLessThan(333)
})

test('the moment is never in the past and never after the end, wherever the clock stands', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -24 * 60, max: 24 * 60 }),
      fc.integer({ min: 1, max: 24 * 60 }),
      fc.integer(),
      (minutesAhead, ttlMinutes, seed) => {
        const now = NOW + minutesAhead * 60_000
        const notAfter = new Date(NOW + ttlMinutes * 60_000)
        const svid = authority.issueX509({ id: '/a', notBefore: new Date(NOW), notAfter })
        const moment = drawRenewal({ svid, now, random: seededRandom(seed) })
        expect(moment).toBeGreaterThanOrEqual(now)
        if (now < notAfter.getTime()) expect(moment).toBeLessThan(notAfter.getTime())
      },
    ),
    { numRuns: 60 },
  )
})

test('an SVID ends with the first certificate of its chain that does', () => {
  const far = new Date(NOW + 30 * 86_400_000)
  const svid = authority.issueX509({ id: '/a', notAfter: far })
  expect(expiryOf(svid)).toBe(authority.issuer.certificate.notAfter)
})

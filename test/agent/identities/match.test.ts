import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { HeldEntry, Selector } from '../../../agent/identities/identities.js'
import { entryMatcher } from '../../../agent/identities/match.js'
import { heldEntry } from '../held-values.js'

const selectors = (...texts: readonly string[]): Selector[] =>
  texts.map((text) => {
    const colon = text.indexOf(':')
    return { type: text.slice(0, colon), value: text.slice(colon + 1) }
  })

const web = heldEntry({ id: 'web', path: '/web', selectors: ['unix:uid:1000'] })
const worker = heldEntry({
  id: 'worker',
  path: '/worker',
  selectors: ['unix:uid:1000', 'unix:path:/bin/worker'],
})
const match = entryMatcher([web, worker])

test.each<[string, string[], HeldEntry[]]>([
  ['one selector that fits', ['unix:uid:1000'], [web]],
  ['all selectors of both', ['unix:path:/bin/worker', 'unix:uid:1000'], [web, worker]],
  ['only part of an entry', ['unix:path:/bin/worker'], []],
  ['another value', ['unix:uid:1001'], []],
  ['another type with the same value', ['docker:uid:1000'], []],
  ['a type and value cut elsewhere', ['unix:uid:1000:x'], []],
  ['nothing', [], []],
  ['the same selector twice', ['unix:uid:1000', 'unix:uid:1000'], [web]],
])('a caller that shows %s gets what it has earned', (_, shown, earned) => {
  expect(match(selectors(...shown))).toEqual(earned)
})

test('an entry without selectors matches nobody, whatever they show', () => {
  const open: HeldEntry = { ...web, selectors: [] }
  expect(entryMatcher([open])(selectors('unix:uid:1000'))).toEqual([])
  expect(entryMatcher([open])([])).toEqual([])
})

test('entries match exactly when all their selectors are shown, in their order', () => {
  const selector = fc.constantFrom('a:1', 'a:2', 'b:1', 'b:2', 'c:1')
  fc.assert(
    fc.property(
      fc.array(fc.uniqueArray(selector, { minLength: 1 }), { maxLength: 8 }),
      fc.array(selector),
      (wanted, shown) => {
        const entries = wanted.map((texts, at) => ({
          ...web,
          id: `e${at}`,
          selectors: selectors(...texts),
        }))
        const expected = entries.filter((_, at) =>
          wanted[at]!.every((text) => shown.includes(text)),
        )
        expect(entryMatcher(entries)(selectors(...shown))).toEqual(expected)
      },
    ),
  )
})

import { expect, test } from 'vitest'
import { type SetMatch, setMatches } from '../../../sentry/registration/selector.js'

const cases: readonly (readonly [SetMatch, string, string, boolean])[] = [
  ['exact', 'ab', 'ab', true],
  ['exact', 'a', 'ab', false],
  ['exact', 'abc', 'ab', false],
  ['subset', 'a', 'ab', true],
  ['subset', 'ab', 'ab', true],
  ['subset', 'abc', 'ab', false],
  ['subset', '', 'ab', false],
  ['superset', 'abc', 'ab', true],
  ['superset', 'ab', 'ab', true],
  ['superset', 'a', 'ab', false],
  ['any', 'ax', 'ab', true],
  ['any', 'xy', 'ab', false],
  ['any', '', 'ab', false],
]

test.each(cases)('%s: {%s} against {%s} is %s', (match, candidates, requested, expected) => {
  expect(setMatches(new Set(candidates), new Set(requested), match)).toBe(expected)
})

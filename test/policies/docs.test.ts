import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { decisionReasons, parseDocuments, runTests } from '../../policies/index.js'
import { parseTrustDomain } from '../../spiffe/index.js'

const page = readFileSync(join(import.meta.dirname, '../../docs/policies.md'), 'utf8')
const examples = [...page.matchAll(/```yaml\n(.*?)```/gs)].map(([, text = '']) => text)

describe('docs/policies.md', () => {
  test.each(examples.map((text, at) => [at + 1, text] as const))(
    'example %i is valid and holds',
    (_, text) => {
      const documents = parseDocuments(text, 'docs/policies.md')
      const trustDomain = parseTrustDomain('prod.example')
      const now = Date.UTC(2026, 5, 1)
      expect(runTests({ trustDomain, layout: 'kubernetes', documents, now })).toMatchObject({
        failed: 0,
      })
    },
  )

  test('names every reason of a decision', () => {
    const reasons = Object.keys(decisionReasons).filter(
      (reason) => !reason.startsWith('malformed:'),
    )
    for (const reason of [...reasons, 'malformed:']) expect(page).toContain(`\`${reason}`)
  })
})

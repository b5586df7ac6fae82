import { describe, expect, test } from 'vitest'
import { explainIdentity } from '../../../agent/local/explain.js'
import { type FakeEntry, fakeIdentities, selectorOf } from '../../support/fake-identities.js'

const web: FakeEntry = { path: '/web', selectors: ['unix:uid:1000', 'unix:path:/usr/bin/web'] }
const api: FakeEntry = { path: '/api', selectors: ['unix:uid:2000'] }
const wide: FakeEntry = { path: '/wide', selectors: ['unix:uid:1000', 'k8s:ns:a', 'k8s:sa:b'] }

function explain(
  entries: readonly FakeEntry[],
  selectors: readonly string[],
  options: {
    ready?: boolean
    inHand?: boolean
    onlyRelated?: boolean
    maxCandidates?: number
  } = {},
) {
  const { ready = true, inHand = true, onlyRelated = false, maxCandidates = 10 } = options
  const identities = fakeIdentities({ entries, prefetch: inHand })
  const { candidates, ...verdict } = explainIdentity({
    entries: identities.entries(),
    selectors: selectors.map(selectorOf),
    ready,
    svidOf: identities.x509Svid,
    maxCandidates,
    onlyRelated,
  })
  const shown = candidates.map(({ entry, missing }) => [
    entry.id,
    missing.map(({ type, value }) => `${type}:${value}`),
  ])
  return { ...verdict, candidates: shown }
}

describe('an explanation', () => {
  test('names the identity of a process that has one', () => {
    const seen = ['unix:uid:1000', 'unix:path:/usr/bin/web', 'unix:gid:5']
    expect(explain([api, web], seen)).toEqual({
      code: '',
      text: 'is spiffe://prod.example/web',
      candidates: [
        ['/web', []],
        ['/api', ['unix:uid:2000']],
      ],
    })
  })

  test('SB-12 names the nearest miss and what it lacks', () => {
    expect(explain([api, wide, web], ['unix:uid:1000', 'unix:path:/usr/bin/curl'])).toEqual({
      code: 'CS_NO_IDENTITY',
      text: 'no entry matches; nearest is spiffe://prod.example/web, which also wants unix:path:/usr/bin/web',
      candidates: [
        ['/web', ['unix:path:/usr/bin/web']],
        ['/api', ['unix:uid:2000']],
        ['/wide', ['k8s:ns:a', 'k8s:sa:b']],
      ],
    })
  })

  test.each<[string, readonly FakeEntry[], Parameters<typeof explain>[2], string, string]>([
    [
      'there are no entries',
      [],
      {},
      'CS_NO_IDENTITY',
      'the sentry has given this agent no registration entries',
    ],
    [
      'nothing is alike',
      [api],
      { onlyRelated: true },
      'CS_NO_IDENTITY',
      'no registration entry has a selector in common with the process',
    ],
    [
      'the agent is not ready',
      [web],
      { ready: false },
      'CS_IDENTITIES_NOT_READY',
      'the agent has not heard from its sentry yet',
    ],
    [
      'no SVID is in hand',
      [{ path: '/a', selectors: ['unix:uid:1000'] }],
      { inHand: false },
      'CS_SENTRY_UNAVAILABLE',
      'is spiffe://prod.example/a, but no SVID is in hand yet',
    ],
  ])('says so when %s', (_, entries, options, code, text) => {
    expect(explain(entries, ['unix:uid:1000'], options)).toMatchObject({ code, text })
  })

  test('shows a stranger nothing of entries that it has nothing in common with, and the best few of the others', () => {
    const many = Array.from({ length: 9 }, (_, at) => ({
      path: `/${at}`,
      selectors: ['unix:uid:1000', `k8s:ns:${at}`],
    }))
    const { candidates } = explain([api, ...many], ['unix:uid:1000'], {
      onlyRelated: true,
      maxCandidates: 3,
    })
    expect(candidates.map(([id]) => id)).toEqual(['/0', '/1', '/2'])
  })
})

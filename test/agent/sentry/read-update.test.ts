import { describe, expect, test } from 'vitest'
import { updateReader } from '../../../agent/sentry/read-update.js'
import { testAuthority } from '../../support/authority.js'
import { entry, wireBundle } from '../../support/fake-sentry.js'
import { memoryLog } from '../../support/memory-log.js'
import { heldBundle } from '../held-values.js'

const authority = testAuthority('prod.example')
const partner = testAuthority('partner.example')
const own = heldBundle(authority.bundle)
const log = memoryLog()
const read = updateReader({
  trustDomain: authority.trustDomain,
  heldBundle: (name) => (name === authority.trustDomain ? own : undefined),
  log,
})
const bad = { ...entry({ id: 'bad', path: '/bad' }), selectors: [] }

describe('one bad item does not stop the others', () => {
  test('an entry that cannot be read counts as withdrawn, and the log says so', () => {
    const update = read({ entries: [bad, entry({ id: 'good', path: '/good' })] })
    expect(update.entries.map(({ id }) => id)).toEqual(['good'])
    expect(update.removedEntryIds).toEqual(['bad'])
    expect(log.lines.at(-1)).toMatchObject({
      level: 'warn',
      code: 'CS_SENTRY_RESPONSE_INVALID',
      reason: 'entry bad: selectors are missing',
    })
  })

  test('an entry whose SVID goes to a store is not for the workloads here', () => {
    const stored = { ...entry({ id: 'stored', path: '/stored' }), storeSvid: true }
    const update = read({ entries: [stored] })
    expect(update.entries).toEqual([])
    expect(update.removedEntryIds).toEqual(['stored'])
  })

  test('a federated bundle that cannot be read is left out', () => {
    const broken = {
      ...wireBundle(partner.bundle),
      x509Authorities: [{ asn1: new Uint8Array(), tainted: false }],
    }
    const { bundles } = read({ bundles: [broken, wireBundle(authority.bundle)] })
    expect(bundles.map(({ bundle }) => bundle.trustDomain)).toEqual(['prod.example'])
  })
})

describe('our own bundle', () => {
  test('keeps its last good state when the new one holds no root', () => {
    const empty = { ...wireBundle(authority.bundle), x509Authorities: [] }
    expect(read({ full: true, bundles: [empty] }).bundles).toEqual([own])
  })

  test('is not removed at anybody’s word', () => {
    const removed = { removedTrustDomains: ['prod.example', 'partner.example', 'NOT A NAME'] }
    expect(read(removed).removedTrustDomains).toEqual(['partner.example'])
  })
})

test('a snapshot for something that is no SPIFFE ID is left out', () => {
  const snapshot = { content: new Uint8Array(), signature: new Uint8Array(), signerChain: [] }
  const good = { ...snapshot, target: 'spiffe://prod.example/web' }
  expect(read({ snapshots: [{ ...snapshot, target: 'web' }, good] }).snapshots).toEqual([good])
})

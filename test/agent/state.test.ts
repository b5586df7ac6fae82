import { describe, expect, test } from 'vitest'
import type { Held } from '../../agent/identities/held.js'
import { type AgentState, readState, writeState } from '../../agent/state.js'
import { parseTrustDomain } from '../../spiffe/index.js'
import { testAuthority } from '../support/authority.js'
import { heldBundle, heldEntry, heldState, heldSvid } from './held-values.js'

const authority = testAuthority('prod.example')
const partner = testAuthority('partner.example')
const { trustDomain } = authority
const web = heldEntry({
  id: 'web',
  path: '/web',
  federatesWith: ['partner.example'],
  hint: 'internal',
  revision: 3,
  onDemand: true,
})
const agent = heldSvid(authority, heldEntry({ id: 'agent', path: '/spire/agent/join_token/x' }))
const tainted = { taintedX509: [authority.root.certificate.fingerprint], taintedJwt: ['jwt-es256'] }
const base = heldState(authority, [web])
const held: Held = {
  ...base,
  bundles: new Map([
    [trustDomain, heldBundle(authority.bundle, tainted)],
    [partner.trustDomain, heldBundle(partner.bundle)],
  ]),
  svids: new Map([['web', heldSvid(authority, web, { renewAt: 1_790_000_000_123 })]]),
  snapshots: new Map([
    [
      'spiffe://prod.example/web',
      {
        target: 'spiffe://prod.example/web',
        content: Buffer.from('{"a":1}'),
        signature: Buffer.alloc(64, 3),
        signerChain: [Buffer.from([1, 2]), Buffer.from([3])],
      },
    ],
  ]),
}
const state: AgentState = {
  trustDomain,
  own: { svid: agent.svid, privateKeyDer: agent.privateKeyDer, renewAt: 1_790_000_000_000 },
  banned: false,
  spentEvidence: ['abc'],
  held,
}

test('what is written is read again, to the last field', () => {
  const read = readState(writeState(state), trustDomain)
  expect(read.own).toMatchObject({ renewAt: 1_790_000_000_000 })
  expect(read.own?.svid.chain.map(({ der }) => Buffer.from(der))).toEqual(
    agent.svid.chain.map(({ der }) => Buffer.from(der)),
  )
  expect(read.own?.svid.privateKey.equals(agent.svid.privateKey)).toBe(true)
  expect(read).toMatchObject({ trustDomain, banned: false, spentEvidence: ['abc'] })
  expect(read.held.entries).toEqual([web])
  expect(read.held.snapshots).toEqual(held.snapshots)

  const svid = read.held.svids.get('web')
  const { renewAt, expiresAt, revision, createdAt } = held.svids.get('web')!
  expect(svid).toMatchObject({ renewAt, expiresAt, revision, createdAt })
  expect(svid?.svid.id).toBe('spiffe://prod.example/web')

  const own = read.held.bundles.get(trustDomain)
  expect([...(own?.taintedX509 ?? [])]).toEqual(tainted.taintedX509)
  expect([...(own?.taintedJwt ?? [])]).toEqual(tainted.taintedJwt)
  expect(own?.bundle).toMatchObject({ sequence: 1n, refreshHint: 300 })
  expect(read.held.bundles.get(partner.trustDomain)?.bundle.jwtAuthorities.size).toBe(1)
})

test('an agent that holds nothing yet can be written and read', () => {
  const empty: AgentState = {
    ...state,
    own: undefined,
    banned: true,
    held: heldState(authority, []),
  }
  expect(readState(writeState(empty), trustDomain)).toMatchObject({ own: undefined, banned: true })
})

describe('state that cannot be used is refused by code', () => {
  const document = JSON.parse(Buffer.from(writeState(state)).toString('utf8')) as Record<
    string,
    unknown
  >
  const changed = (change: Record<string, unknown>) => JSON.stringify({ ...document, ...change })
  const svids = document['svids'] as Record<string, unknown>[]

  test.each([
    ['that is empty', ''],
    ['that is no JSON', 'hello'],
    ['that is another document', '{"format":"something else","version":1}'],
    ['of a later version', changed({ version: 2 })],
    ['without entries', changed({ entries: undefined })],
    ['with an entry cut short', changed({ entries: ['CgN3'] })],
    ['with a bundle that is none', changed({ bundles: ['AAAA'] })],
    ['with an SVID without its key', changed({ svids: [{ ...svids[0], privateKey: undefined }] })],
    [
      'with an SVID whose key is another',
      changed({
        svids: [
          { ...svids[0], privateKey: (document['own'] as { privateKey: string }).privateKey },
        ],
      }),
    ],
    [
      'with a chain that is none',
      changed({ own: { chain: ['AAAA'], privateKey: 'AAAA', renewAt: 1 } }),
    ],
    ['cut short', JSON.stringify(document).slice(0, -40)],
  ])('state %s', (_, text) => {
    expect(() => readState(Buffer.from(text), trustDomain)).toThrow(
      expect.objectContaining({ code: 'CS_STATE_UNREADABLE' }),
    )
  })

  test('state of another trust domain', () => {
    expect(() => readState(writeState(state), parseTrustDomain('other.example'))).toThrow(
      expect.objectContaining({
        code: 'CS_STATE_FOREIGN',
        message: 'state belongs to prod.example, not to other.example',
      }),
    )
  })

  test('and no message repeats what is in it', () => {
    const key = (document['own'] as { privateKey: string }).privateKey
    try {
      readState(
        Buffer.from(changed({ svids: [{ ...svids[0], privateKey: `!${key}` }] })),
        trustDomain,
      )
    } catch (error) {
      expect((error as Error).message).not.toContain(key.slice(0, 20))
    }
  })
})

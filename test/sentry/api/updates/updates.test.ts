import { createPublicKey, verify } from 'node:crypto'
import { status } from '@grpc/grpc-js'
import { expect, test } from 'vitest'
import { PolicyAdminClient } from '../../../../proto/gen/countersign/policy/v1/policy.js'
import {
  type FollowResponse,
  UpdatesClient,
} from '../../../../proto/gen/countersign/sentry/v1/updates.js'
import { AgentClient } from '../../../../proto/gen/spire/api/server/agent/v1/agent.js'
import { BundleClient } from '../../../../proto/gen/spire/api/server/bundle/v1/bundle.js'
import { EntryClient } from '../../../../proto/gen/spire/api/server/entry/v1/entry.js'
import { Bundle, Entry, EntryMask } from '../../../../proto/gen/spire/api/types/types.js'
import {
  bundleSet,
  parseCertificate,
  pathOf,
  type SpiffeId,
  verifyX509Svid,
} from '../../../../spiffe/index.js'
import { testAuthority } from '../../../support/authority.js'
import { fakeClock } from '../../../support/fake-clock.js'
import {
  type AttestedAgent,
  agentFrom,
  ask,
  freshCsr,
  nextOf,
  refusalOf,
  type TestSentry,
  testSentry,
  trustDomain,
} from '../../running-sentry.js'

type Fields = Parameters<typeof Entry.create>[0]

const under = (agent: AttestedAgent, fields: Fields) =>
  Entry.create({
    spiffeId: { trustDomain, path: `/${fields?.id}` },
    parentId: { trustDomain, path: pathOf(agent.id as SpiffeId) },
    selectors: [{ type: 'unix', value: 'uid:1' }],
    ...fields,
  })

async function create(test: TestSentry, ...entries: Entry[]) {
  const request = { entries, outputMask: EntryMask.create() }
  const { results } = await ask(test.local(EntryClient), 'batchCreateEntry', request)
  expect(results.filter(({ status }) => status?.code !== 0)).toEqual([])
}

function follow(test: TestSentry, { svid }: AttestedAgent) {
  const call = test.remote(UpdatesClient, svid).follow()
  call.write({ step: { $case: 'start', value: { agentVersion: '1.2.3' } } })
  return call
}

type Call = ReturnType<typeof follow>

/** Messages until what they say of `part` is not empty; the rest in between is thrown away. */
async function until(call: Call, part: keyof FollowResponse): Promise<FollowResponse> {
  for (;;) {
    const message = await nextOf(call)
    if (!message) throw new Error(`the stream ended without ${part}`)
    const said = message[part]
    if (Array.isArray(said) && said.length > 0) return message
  }
}

test('the first message is the whole state, and each change after it comes by itself', async () => {
  await using test = await testSentry()
  const agent = await test.attest()
  await create(test, under(agent, { id: 'one' }))
  const call = follow(test, agent)
  const first = await nextOf(call)
  expect(first).toMatchObject({ full: true, more: false })
  expect(first?.entries.map(({ id }) => id)).toEqual(['one'])
  expect(first?.bundles.map(({ trustDomain }) => trustDomain)).toEqual(['prod.example'])
  expect(first?.sequence).toBeGreaterThan(0n)

  await create(test, under(agent, { id: 'two' }))
  const created = await until(call, 'entries')
  expect(created).toMatchObject({ full: false, removedEntryIds: [], bundles: [] })
  expect(created.entries.map(({ id }) => id)).toEqual(['two'])
  expect(created.sequence).toBeGreaterThan(first?.sequence ?? 0n)

  await ask(test.local(EntryClient), 'batchUpdateEntry', {
    entries: [under(agent, { id: 'two', hint: 'new' })],
    inputMask: undefined,
    outputMask: undefined,
  })
  expect((await until(call, 'entries')).entries[0]).toMatchObject({ hint: 'new' })
  await ask(test.local(EntryClient), 'batchDeleteEntry', { ids: ['one'] })
  expect((await until(call, 'removedEntryIds')).removedEntryIds).toEqual(['one'])
  call.cancel()
})

test('an agent without entries gets the bundle, and its version is kept', async () => {
  await using test = await testSentry()
  const agent = await test.attest()
  const call = follow(test, agent)
  const first = await nextOf(call)
  expect(first).toMatchObject({ full: true, entries: [], snapshots: [] })
  expect(first?.bundles).toHaveLength(1)
  const shown = await ask(test.local(AgentClient), 'getAgent', {
    id: { trustDomain, path: pathOf(agent.id as SpiffeId) },
    outputMask: undefined,
  })
  expect(shown.agentVersion).toBe('1.2.3')
  call.cancel()
})

test('an entry of one agent is told to that agent alone, also through an alias', async () => {
  await using test = await testSentry()
  const [mine, yours] = [await test.attest({ alias: '/node-a' }), await test.attest()]
  const [here, there] = [follow(test, mine), follow(test, yours)]
  await nextOf(here)
  await nextOf(there)
  await create(test, under(mine, { id: 'app', parentId: { trustDomain, path: '/node-a' } }))
  expect((await until(here, 'entries')).entries.map(({ id }) => id)).toEqual(['app'])
  // What reaches the other next is its own.
  await create(test, under(yours, { id: 'yours' }))
  expect((await until(there, 'entries')).entries.map(({ id }) => id)).toEqual(['yours'])
  here.cancel()
  there.cancel()
})

/** Ten kilobytes each. */
const large = (agent: AttestedAgent, count: number) =>
  Array.from({ length: count }, (_, index) =>
    under(agent, {
      id: `e-${index}`,
      selectors: [{ type: 'unix', value: `${index}${'x'.repeat(10_000)}` }],
    }),
  )

test('a large state comes in several messages, of which only the last says that it is all', async () => {
  await using test = await testSentry()
  const agent = await test.attest()
  await create(test, ...large(agent, 300))
  const call = follow(test, agent)
  const messages: FollowResponse[] = []
  do messages.push((await nextOf(call))!)
  while (messages.at(-1)?.more)
  expect(messages.length).toBeGreaterThan(2)
  expect(messages.map(({ full }) => full)).toEqual([true, ...messages.slice(1).map(() => false)])
  expect(new Set(messages.map(({ sequence }) => sequence)).size).toBe(1)
  const ids = messages.flatMap(({ entries }) => entries.map(({ id }) => id))
  expect(new Set(ids).size).toBe(300)
  expect(ids).toHaveLength(300)
  call.cancel()
})

const partner = testAuthority('partner.example')
const [root] = partner.bundle.x509Authorities

async function setPartner(test: TestSentry, sequenceNumber: bigint) {
  const bundle = Bundle.create({
    trustDomain: 'partner.example',
    x509Authorities: [{ asn1: root?.der ?? new Uint8Array() }],
    sequenceNumber,
  })
  const request = { bundle: [bundle], outputMask: undefined }
  await ask(test.local(BundleClient), 'batchSetFederatedBundle', request)
}

test('bundles come of the trust domains that the entries name, and go with them (TB-5)', async () => {
  await using test = await testSentry()
  const agent = await test.attest()
  const call = follow(test, agent)
  await nextOf(call)
  await setPartner(test, 1n)
  await create(test, under(agent, { id: 'app', federatesWith: ['partner.example'] }))
  const named = await until(call, 'bundles')
  expect(named.bundles.map(({ trustDomain }) => trustDomain)).toEqual(['partner.example'])
  expect(named.entries.map(({ id }) => id)).toEqual(['app'])
  await setPartner(test, 2n)
  expect((await until(call, 'bundles')).bundles[0]?.sequenceNumber).toBe(2n)

  const own = { x509Authorities: [{ asn1: root?.der ?? new Uint8Array(), tainted: false }] }
  await ask(test.local(BundleClient), 'appendBundle', {
    ...own,
    jwtAuthorities: [],
    witAuthorities: [],
    outputMask: undefined,
  })
  expect((await until(call, 'bundles')).bundles[0]).toMatchObject({
    trustDomain: 'prod.example',
    sequenceNumber: 2n,
  })
  await ask(test.local(EntryClient), 'batchDeleteEntry', { ids: ['app'] })
  const gone = await until(call, 'removedTrustDomains')
  expect([gone.removedTrustDomains, gone.removedEntryIds]).toEqual([['partner.example'], ['app']])
  call.cancel()
})

const apply = (test: TestSentry, text: string) =>
  ask(test.local(PolicyAdminClient), 'apply', { text, source: 'test', dryRun: false })

test('the snapshots of its targets come signed, with one generation more for each change', async () => {
  await using test = await testSentry()
  const agent = await test.attest()
  await create(test, under(agent, { id: 'app' }))
  const call = follow(test, agent)
  const first = await until(call, 'snapshots')
  await apply(test, 'p app one')
  const second = await until(call, 'snapshots')
  await apply(test, 'q other nothing\np app two')
  const third = await until(call, 'snapshots')
  const contents = [first, second, third].map(({ snapshots }) => {
    const [snapshot] = snapshots
    const chain = snapshot?.signerChain ?? []
    const { id } = verifyX509Svid({
      chain,
      bundles: bundleSet([test.sentry.bundle()]),
      now: new Date(),
    })
    expect(id).toBe('spiffe://prod.example/spire/countersign/policy-signer')
    const leaf = parseCertificate(chain[0] ?? new Uint8Array())
    const key = createPublicKey({
      key: Buffer.from(leaf.publicKeyInfo),
      format: 'der',
      type: 'spki',
    })
    const content = snapshot?.content ?? new Uint8Array()
    const signature = snapshot?.signature ?? new Uint8Array()
    expect(signature).toHaveLength(64)
    expect(verify('sha256', content, { key, dsaEncoding: 'ieee-p1363' }, signature)).toBe(true)
    return JSON.parse(Buffer.from(content).toString())
  })
  const target = 'spiffe://prod.example/app'
  expect(contents).toEqual([
    { generation: '1', policies: [], target },
    { generation: '2', policies: ['one'], target },
    { generation: '3', policies: ['two'], target },
  ])
  await ask(test.local(EntryClient), 'batchDeleteEntry', { ids: ['app'] })
  expect((await until(call, 'removedTargets')).removedTargets).toEqual([target])
  call.cancel()
})

test('when the policy signer is replaced the snapshots come again under the new one', async () => {
  const clock = fakeClock(new Date())
  await using test = await testSentry({
    clock,
    lifetimes: { issuer: 3600, x509Svid: 600, agentSvid: 1800 },
  })
  const agent = await test.attest()
  await create(test, under(agent, { id: 'app' }))
  const call = follow(test, agent)
  const [before] = (await until(call, 'snapshots')).snapshots
  await clock.advance(910_000)
  const [after] = (await until(call, 'snapshots')).snapshots
  expect(after?.content).toEqual(before?.content)
  expect(after?.signerChain[0]).not.toEqual(before?.signerChain[0])
  call.cancel()
})

test('a slow reader gets the last of many changes, not each of them', async () => {
  await using test = await testSentry()
  const agent = await test.attest()
  const call = follow(test, agent)
  await nextOf(call)
  const many = large(agent, 900)
  for (let start = 0; start < 900; start += 300)
    await create(test, ...many.slice(start, start + 300))
  // Nothing is read in the meantime: the stream is full long before the last change.
  for (let round = 0; round < 20; round += 1) await setPartner(test, BigInt(round))
  await create(test, under(agent, { id: 'last', federatesWith: ['partner.example'] }))
  const held = new Set<string>()
  let bundles = 0
  while (!held.has('last')) {
    const message = await nextOf(call)
    for (const { id } of message?.entries ?? []) held.add(id)
    bundles += message?.bundles.length ?? 0
  }
  expect([held.size, bundles]).toEqual([901, 1])
  call.cancel()
})

async function reasonOf(call: Promise<unknown>) {
  const { status: code, code: reason } = await refusalOf(call)
  return [code, reason]
}

test('a banned agent is sent away in the middle of its stream, and so is an evicted one', async () => {
  await using test = await testSentry()
  const agents = test.local(AgentClient)
  const wireId = ({ id }: AttestedAgent) => ({ trustDomain, path: pathOf(id as SpiffeId) })
  const [banned, evicted] = [await test.attest(), await test.attest()]
  const calls = [follow(test, banned), follow(test, evicted)]
  for (const call of calls) await nextOf(call)
  const ends = calls.map((call) => reasonOf(nextOf(call)))
  await ask(agents, 'banAgent', { id: wireId(banned) })
  await ask(agents, 'deleteAgent', { id: wireId(evicted) })
  expect(await Promise.all(ends)).toEqual([
    [status.PERMISSION_DENIED, 'CS_AGENT_BANNED'],
    [status.PERMISSION_DENIED, 'CS_AGENT_NOT_ATTESTED'],
  ])
})

test('the stream of a certificate that was replaced ends without a fuss', async () => {
  await using test = await testSentry()
  const agent = await test.attest()
  const old = follow(test, agent)
  await nextOf(old)
  const { csr, privateKey } = freshCsr()
  const answer = await ask(test.remote(AgentClient, agent.svid), 'renewAgent', { params: { csr } })
  const renewed = follow(test, agentFrom(answer.svid, privateKey))
  expect((await nextOf(renewed))?.full).toBe(true)
  expect(await nextOf(old)).toBeUndefined()
  renewed.cancel()
})

test('a certificate that expires while its stream is open ends it with the reason', async () => {
  const clock = fakeClock(new Date())
  await using test = await testSentry({ clock, lifetimes: { agentSvid: 60 } })
  const agent = await test.attest()
  const call = follow(test, agent)
  await nextOf(call)
  const end = reasonOf(nextOf(call))
  await clock.advance(61_000)
  expect(await end).toEqual([status.PERMISSION_DENIED, 'CS_AGENT_EXPIRED'])
})

test('a stream that does not begin with a start is refused', async () => {
  await using test = await testSentry()
  const { svid } = await test.attest()
  const call = test.remote(UpdatesClient, svid).follow()
  const acknowledgement = { sequence: 1n, bundleSequence: 1n, reports: [] }
  call.write({ step: { $case: 'acknowledgement', value: acknowledgement } })
  expect(await reasonOf(nextOf(call))).toEqual([status.INVALID_ARGUMENT, 'CS_REQUEST_INVALID'])
})

test('thirty agents hear of a new root key of the bundle', async () => {
  await using test = await testSentry()
  const agents = await Promise.all(Array.from({ length: 30 }, () => test.attest()))
  const calls = agents.map((agent) => follow(test, agent))
  await Promise.all(calls.map((call) => nextOf(call)))
  const heard = calls.map((call) => until(call, 'bundles'))
  await ask(test.local(BundleClient), 'appendBundle', {
    x509Authorities: [{ asn1: root?.der ?? new Uint8Array(), tainted: false }],
    jwtAuthorities: [],
    witAuthorities: [],
    outputMask: undefined,
  })
  const messages = await Promise.all(heard)
  expect(new Set(messages.map(({ bundles }) => bundles[0]?.sequenceNumber))).toEqual(new Set([2n]))
  for (const call of calls) call.cancel()
})

import { status } from '@grpc/grpc-js'
import { expect, test } from 'vitest'
import { Status } from '../../../proto/gen/google/rpc/status.js'
import {
  AgentClient,
  CountAgentsRequest_Filter,
} from '../../../proto/gen/spire/api/server/agent/v1/agent.js'
import { EntryClient } from '../../../proto/gen/spire/api/server/entry/v1/entry.js'
import {
  SelectorMatch_MatchBehavior as Match,
  PermissionDeniedDetails,
  PermissionDeniedDetails_Reason as Reason,
} from '../../../proto/gen/spire/api/types/types.js'
import { pathOf, type SpiffeId, type X509Svid } from '../../../spiffe/index.js'
import {
  type AttestedAgent,
  agentFrom,
  ask,
  attestWith,
  freshCsr,
  refusalOf,
  type TestSentry,
  testSentry,
  trustDomain,
} from '../running-sentry.js'

const wireId = (id: string) => ({ trustDomain, path: pathOf(id as SpiffeId) })
const everyAgent = { filter: undefined, outputMask: undefined, pageSize: 0, pageToken: '' }

/** A call that only an agent may make. */
const useAs = (test: TestSentry, svid: X509Svid) =>
  ask(test.remote(EntryClient, svid), 'getAuthorizedEntries', { outputMask: undefined })

async function renewed(test: TestSentry, { svid }: AttestedAgent): Promise<AttestedAgent> {
  const { csr, privateKey } = freshCsr()
  const answer = await ask(test.remote(AgentClient, svid), 'renewAgent', { params: { csr } })
  return agentFrom(answer.svid, privateKey)
}

/** Why an agent was turned away, read as SPIRE's agents read it. */
async function reasonOf(call: Promise<unknown>) {
  const { error, message } = await refusalOf(call)
  const [details] = error.metadata.get('grpc-status-details-bin')
  const proto = Status.decode(details as Buffer)
  expect(proto.code).toBe(error.code)
  expect(proto.details[0]?.typeUrl).toBe(
    'type.googleapis.com/spire.api.types.PermissionDeniedDetails',
  )
  expect(message).toMatch(/^authorization denied for method \/spire/)
  return PermissionDeniedDetails.decode(proto.details[0]!.value).reason
}

test('a renewed certificate counts from its first use, and the old one until then', async () => {
  await using test = await testSentry()
  const first = await test.attest()
  const second = await renewed(test, first)
  expect(second.id).toBe(first.id)
  await useAs(test, first.svid)
  await useAs(test, second.svid)
  expect(await reasonOf(useAs(test, first.svid))).toBe(Reason.AGENT_NOT_ACTIVE)
  await useAs(test, second.svid)
})

test('of two renewals before the first use only the second counts', async () => {
  await using test = await testSentry()
  const first = await test.attest()
  const lost = await renewed(test, first)
  const kept = await renewed(test, first)
  expect(await reasonOf(useAs(test, lost.svid))).toBe(Reason.AGENT_NOT_ACTIVE)
  await useAs(test, kept.svid)
})

test('the first use of a renewed certificate by many calls at once lets all of them in', async () => {
  await using test = await testSentry()
  const next = await renewed(test, await test.attest())
  const client = test.remote(EntryClient, next.svid)
  const uses = Array.from({ length: 30 }, () =>
    ask(client, 'getAuthorizedEntries', { outputMask: undefined }),
  )
  await Promise.all(uses)
})

test.each([
  ['nothing', undefined, 'params cannot be nil'],
  ['no request', { csr: Buffer.alloc(0) }, 'missing CSR'],
  ['a request that is none', { csr: Buffer.from('x') }, 'failed to parse CSR'],
])('renewing with %s is refused', async (_, params, message) => {
  await using test = await testSentry()
  const { svid } = await test.attest()
  const refusal = await refusalOf(ask(test.remote(AgentClient, svid), 'renewAgent', { params }))
  expect(refusal.status).toBe(status.INVALID_ARGUMENT)
  expect(refusal.message).toContain(message)
})

test('a banned agent is told so, cannot attest, and is forgotten when it is evicted', async () => {
  await using test = await testSentry()
  const agents = test.local(AgentClient)
  const { id, svid } = await test.attest()
  await ask(agents, 'banAgent', { id: wireId(id) })
  await ask(agents, 'banAgent', { id: wireId(id) })
  expect(await reasonOf(useAs(test, svid))).toBe(Reason.AGENT_BANNED)
  const shown = await ask(agents, 'getAgent', { id: wireId(id), outputMask: undefined })
  expect(shown).toMatchObject({ banned: true, x509svidSerialNumber: '' })

  await ask(agents, 'deleteAgent', { id: wireId(id) })
  expect(await reasonOf(useAs(test, svid))).toBe(Reason.AGENT_NOT_ATTESTED)
  for (const call of ['banAgent', 'deleteAgent'] as const) {
    expect(await refusalOf(ask(agents, call, { id: wireId(id) }))).toMatchObject({
      status: status.NOT_FOUND,
      message: 'agent not found',
      code: 'CS_AGENT_NOT_FOUND',
    })
  }
})

test('an agent is shown with its serial number in decimal and without what the mask leaves out', async () => {
  await using test = await testSentry()
  const { id, svid } = await test.attest()
  const agents = test.local(AgentClient)
  const shown = await ask(agents, 'getAgent', { id: wireId(id), outputMask: undefined })
  expect(shown).toMatchObject({
    attestationType: 'join_token',
    x509svidSerialNumber: BigInt(`0x${svid.chain[0].serialNumber}`).toString(),
    x509svidExpiresAt: BigInt(svid.chain[0].notAfter / 1000),
    banned: false,
    canReattest: false,
    selectors: [],
  })
  const nothing = {
    attestationType: false,
    x509svidSerialNumber: false,
    x509svidExpiresAt: false,
    selectors: false,
    banned: false,
    canReattest: false,
    agentVersion: false,
  }
  const masked = await ask(agents, 'getAgent', { id: wireId(id), outputMask: nothing })
  expect(masked).toMatchObject({ id: wireId(id), attestationType: '', x509svidExpiresAt: 0n })
})

test('an ID that cannot be that of an agent is refused by name', async () => {
  await using test = await testSentry()
  for (const id of [
    undefined,
    { trustDomain, path: '/app' },
    { trustDomain: 'other.example', path: '/spire/agent/x' },
    { trustDomain, path: '/spire/agent/../x' },
  ]) {
    const refusal = await refusalOf(
      ask(test.local(AgentClient), 'getAgent', { id, outputMask: undefined }),
    )
    expect(refusal.status).toBe(status.INVALID_ARGUMENT)
    expect(refusal.message).toMatch(/^invalid agent ID: /)
  }
})

test('what an agent says of its version is kept, if it is not too long', async () => {
  await using test = await testSentry()
  const { id, svid } = await test.attest()
  const own = test.remote(AgentClient, svid)
  const say = (agentVersion: string) =>
    ask(own, 'postStatus', { agentVersion, currentBundleSerial: 0n })
  await say('1.2.3')
  await say('')
  const { agents } = await ask(test.local(AgentClient), 'listAgents', everyAgent)
  expect(agents.map(({ agentVersion }) => agentVersion)).toEqual(['1.2.3'])
  expect((await refusalOf(say('é'.repeat(128)))).message).toContain('agent version is too long')
  await ask(test.local(AgentClient), 'deleteAgent', { id: wireId(id) })
})

test('agents are listed by page in the order in which they came, and the last page has a token', async () => {
  await using test = await testSentry()
  const local = test.local(AgentClient)
  const ids = [(await test.attest()).id, (await test.attest()).id, (await test.attest()).id]
  const seen: string[] = []
  let pageToken = ''
  for (let page = 0; page < 5; page += 1) {
    const answer = await ask(local, 'listAgents', { ...everyAgent, pageSize: 2, pageToken })
    seen.push(...answer.agents.map(({ id }) => `spiffe://${id?.trustDomain}${id?.path}`))
    pageToken = answer.nextPageToken
    if (answer.agents.length === 0) break
    expect(pageToken).not.toBe('')
  }
  expect(pageToken).toBe('')
  expect(seen).toEqual(ids)
  const bad = ask(local, 'listAgents', { ...everyAgent, pageSize: 2, pageToken: 'two' })
  expect((await refusalOf(bad)).message).toContain('could not parse token')
})

test('agents are filtered and counted by every condition at once', async () => {
  await using test = await testSentry()
  const local = test.local(AgentClient)
  const banned = await test.attest()
  await test.attest()
  await ask(local, 'banAgent', { id: wireId(banned.id) })
  const count = async (filter: Partial<CountAgentsRequest_Filter>) =>
    (await ask(local, 'countAgents', { filter: CountAgentsRequest_Filter.create(filter) })).count
  expect([
    await count({}),
    await count({ byAttestationType: 'join_token' }),
    await count({ byAttestationType: 'x509pop' }),
    await count({ byBanned: true }),
    await count({ byBanned: false }),
    await count({ byCanReattest: true }),
    await count({ byCanReattest: false, byBanned: true }),
    await count({ byExpiresBefore: '2026-01-01 00:00:00 +0000 +00' }),
    await count({ byExpiresBefore: '2999-01-01 00:00:00 +0200 +02' }),
    await count({ byExpiresBefore: 'tomorrow' }),
    await count({
      bySelectorMatch: { selectors: [{ type: 'a', value: 'b' }], match: Match.MATCH_ANY },
    }),
  ]).toEqual([2, 2, 0, 1, 1, 0, 1, 0, 2, 2, 0])
  const malformed = { selectors: [{ type: 'a:b', value: 'c' }], match: Match.MATCH_ANY }
  const refusal = await refusalOf(count({ bySelectorMatch: malformed }))
  expect(refusal.message).toBe("failed to parse selectors: selector type contains ':'")
})

test('an agent that was taken over by another key of the same ID is found out', async () => {
  await using test = await testSentry()
  const agent = await test.attest()
  const thief = await renewed(test, agent)
  await useAs(test, thief.svid)
  expect(await reasonOf(useAs(test, agent.svid))).toBe(Reason.AGENT_NOT_ACTIVE)
})

test('attesting again is not possible with the token of the first time', async () => {
  await using test = await testSentry()
  const token = await ask(test.local(AgentClient), 'createJoinToken', {
    ttl: 60,
    token: '',
    agentId: undefined,
  })
  await attestWith(test.remote(AgentClient), token.value)
  const again = await refusalOf(attestWith(test.remote(AgentClient), token.value))
  expect(again.code).toBe('CS_JOIN_TOKEN_INVALID')
})

import { status } from '@grpc/grpc-js'
import { expect, test } from 'vitest'
import { AgentClient } from '../../../proto/gen/spire/api/server/agent/v1/agent.js'
import { BundleClient } from '../../../proto/gen/spire/api/server/bundle/v1/bundle.js'
import { EntryClient } from '../../../proto/gen/spire/api/server/entry/v1/entry.js'
import { ecKeys, makeCsr } from '../../support/csr.js'
import { fakeClock } from '../../support/fake-clock.js'
import {
  ask,
  attestWith,
  auditRecords,
  freshCsr,
  nextOf,
  refusalOf,
  testSentry,
  trustDomain,
  unknownToken,
} from '../running-sentry.js'

const tokenOf = async (agents: AgentClient, ttl = 600) =>
  (await ask(agents, 'createJoinToken', { ttl, token: '', agentId: undefined })).value

test('a join token gives its bearer an SVID under /spire/agent/join_token that does not show the token', async () => {
  await using test = await testSentry()
  const token = await tokenOf(test.local(AgentClient))
  const { id, svid } = await attestWith(test.remote(AgentClient), token)
  expect(id).toMatch(/^spiffe:\/\/prod\.example\/spire\/agent\/join_token\/[0-9a-f-]{36}$/)
  expect(id).not.toContain(token)
  expect(svid.chain).toHaveLength(2)
  expect(Buffer.byteLength(token)).toBeGreaterThanOrEqual(43)
})

test('a join token works once: of a hundred uses at the same time one succeeds', async () => {
  await using test = await testSentry()
  const token = await tokenOf(test.local(AgentClient))
  const clients = Array.from({ length: 4 }, () => test.remote(AgentClient))
  const uses = Array.from({ length: 100 }, (_, use) => attestWith(clients[use % 4]!, token))
  const outcomes = await Promise.allSettled(uses)
  expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
  const refused = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome] : []))
  expect(new Set(refused.map(({ reason }) => reason.code))).toEqual(
    new Set([status.INVALID_ARGUMENT]),
  )
  const { agents } = await ask(test.local(AgentClient), 'listAgents', {
    filter: undefined,
    outputMask: undefined,
    pageSize: 0,
    pageToken: '',
  })
  expect(agents).toHaveLength(1)
})

test('a token that nobody made, or that was used, is refused in the same words', async () => {
  await using test = await testSentry()
  const token = await tokenOf(test.local(AgentClient))
  const client = test.remote(AgentClient)
  await attestWith(client, token)
  for (const dead of [token, unknownToken()]) {
    expect(await refusalOf(attestWith(client, dead))).toMatchObject({
      status: status.INVALID_ARGUMENT,
      message: 'failed to attest: join token does not exist or has already been used',
      code: 'CS_JOIN_TOKEN_INVALID',
    })
  }
})

test('a token expires, and is forgotten some time later', async () => {
  const clock = fakeClock(new Date())
  await using test = await testSentry({ clock })
  const token = await tokenOf(test.local(AgentClient), 60)
  await clock.advance(60_000)
  // Too old already, also in the moment before the pruner has passed.
  const refusal = await refusalOf(attestWith(test.remote(AgentClient), token))
  expect(refusal.status).toBe(status.INVALID_ARGUMENT)
  expect(['CS_JOIN_TOKEN_EXPIRED', 'CS_JOIN_TOKEN_INVALID']).toContain(refusal.code)
})

test('a token is refused when it can be guessed, lives no time, or exists', async () => {
  await using test = await testSentry()
  const agents = test.local(AgentClient)
  const value = unknownToken()
  const made = { ttl: 60, token: value, agentId: undefined }
  expect((await ask(agents, 'createJoinToken', made)).value).toBe(value)
  const refusals = await Promise.all([
    refusalOf(ask(agents, 'createJoinToken', { ...made, token: 'hunter2' })),
    refusalOf(ask(agents, 'createJoinToken', { ...made, ttl: 0 })),
    refusalOf(ask(agents, 'createJoinToken', made)),
    refusalOf(
      ask(agents, 'createJoinToken', {
        ...made,
        token: '',
        agentId: { trustDomain, path: '/spire/agent/mine' },
      }),
    ),
  ])
  expect(refusals.map(({ status, code }) => [status, code])).toEqual([
    [status.INVALID_ARGUMENT, 'CS_REQUEST_INVALID'],
    [status.INVALID_ARGUMENT, 'CS_REQUEST_INVALID'],
    [status.INTERNAL, 'CS_JOIN_TOKEN_EXISTS'],
    [status.INVALID_ARGUMENT, 'CS_REQUEST_INVALID'],
  ])
  expect(refusals[1].message).toBe('ttl is required, you must provide one')
  expect(refusals[3].message).toContain('invalid agent ID')
})

test('a token with an alias lets entries name the agent before it is there; evicting takes both away', async () => {
  await using test = await testSentry()
  const entries = test.local(EntryClient)
  const { results } = await ask(entries, 'batchCreateEntry', {
    entries: [
      {
        id: 'app',
        spiffeId: { trustDomain, path: '/app' },
        parentId: { trustDomain, path: '/node' },
        selectors: [{ type: 'unix', value: 'uid:1000' }],
        x509SvidTtl: 0,
        jwtSvidTtl: 0,
        federatesWith: [],
        dnsNames: [],
        admin: false,
        downstream: false,
        storeSvid: false,
        expiresAt: 0n,
        hint: '',
        revisionNumber: 0n,
        createdAt: 0n,
      },
    ],
    outputMask: undefined,
  })
  expect(results[0]?.status?.message).toBe('OK')
  const agent = await test.attest({ alias: '/node' })
  const own = test.remote(EntryClient, agent.svid)
  const held = await ask(own, 'getAuthorizedEntries', { outputMask: undefined })
  expect(held.entries.map(({ spiffeId }) => spiffeId?.path)).toEqual(['/node', '/app'])

  await ask(test.local(AgentClient), 'deleteAgent', {
    id: { trustDomain, path: agent.id.slice('spiffe://prod.example'.length) },
  })
  const { count } = await ask(entries, 'countEntries', { filter: undefined })
  expect(count).toBe(1)
  const gone = await refusalOf(ask(own, 'getAuthorizedEntries', { outputMask: undefined }))
  expect([gone.status, gone.code]).toEqual([status.PERMISSION_DENIED, 'CS_AGENT_NOT_ATTESTED'])
  const changes = await auditRecords(test, 'entry.changed.v1')
  expect(changes.map(({ subject, details }) => [subject, details?.['change']])).toEqual([
    ['spiffe://prod.example/app', 'created'],
    ['spiffe://prod.example/node', 'created'],
    ['spiffe://prod.example/node', 'deleted'],
  ])
})

const { csr } = freshCsr()
const complete = { data: { type: 'join_token', payload: Buffer.from('t') }, params: { csr } }

test.each([
  ['no params', { $case: 'challengeResponse', value: Buffer.from('x') }, 'missing params'],
  [
    'no data',
    { $case: 'params', value: { ...complete, data: undefined } },
    'missing attestation data',
  ],
  [
    'no SVID parameters',
    { $case: 'params', value: { ...complete, params: undefined } },
    'missing X509-SVID parameters',
  ],
  [
    'no CSR',
    { $case: 'params', value: { ...complete, params: { csr: Buffer.alloc(0) } } },
    'missing CSR',
  ],
  [
    'no type',
    { $case: 'params', value: { ...complete, data: { ...complete.data, type: '' } } },
    'missing attestation data type',
  ],
  [
    'no payload',
    { $case: 'params', value: { ...complete, data: { type: 'x', payload: Buffer.alloc(0) } } },
    'missing attestation data payload',
  ],
] as const)('an attestation with %s is refused', async (_, step, what) => {
  await using test = await testSentry()
  const call = test.remote(AgentClient).attestAgent()
  call.write({ step })
  expect(await refusalOf(nextOf(call))).toMatchObject({
    status: status.INVALID_ARGUMENT,
    message: `malformed param: ${what}`,
    code: 'CS_ATTESTATION_INVALID',
  })
})

test('an attestation of an unknown kind, or without a first message, is refused', async () => {
  await using test = await testSentry()
  const client = test.remote(AgentClient)
  const unknown = client.attestAgent()
  unknown.write({
    step: {
      $case: 'params',
      value: { ...complete, data: { type: 'palm_reading', payload: Buffer.from('x') } },
    },
  })
  expect(await refusalOf(nextOf(unknown))).toMatchObject({
    status: status.FAILED_PRECONDITION,
    message: 'error getting node attestor: could not find node attestor type "palm_reading"',
  })
  const silent = client.attestAgent()
  silent.end()
  const { status: code, message } = await refusalOf(nextOf(silent))
  expect([code, message.split(':')[0]]).toEqual([
    status.INVALID_ARGUMENT,
    'failed to receive request from stream',
  ])
})

test('the key of an agent must be proven, and a bad request does not use the token up (SB-01)', async () => {
  await using test = await testSentry()
  const token = await tokenOf(test.local(AgentClient))
  const client = test.remote(AgentClient)
  const forged = makeCsr({ keys: { ...ecKeys(), publicKey: ecKeys().publicKey } })
  for (const bad of [forged, Buffer.from('not a request')]) {
    const call = client.attestAgent()
    call.write({
      step: {
        $case: 'params',
        value: {
          data: { type: 'join_token', payload: Buffer.from(token) },
          params: { csr: bad },
        },
      },
    })
    const refusal = await refusalOf(nextOf(call))
    expect(refusal.status).toBe(status.INVALID_ARGUMENT)
    expect(refusal.message).toContain('failed to parse CSR')
  }
  expect((await attestWith(client, token)).id).toContain('/join_token/')
})

test('everybody gets the bundle, on the connection of the attestation and without a certificate', async () => {
  await using test = await testSentry()
  const bundle = await ask(test.remote(BundleClient), 'getBundle', { outputMask: undefined })
  expect(bundle.trustDomain).toBe('prod.example')
  expect(bundle.x509Authorities).toHaveLength(1)
  expect(bundle.jwtAuthorities.length).toBeGreaterThanOrEqual(1)
  expect(bundle.sequenceNumber).toBe(1n)
  const masked = await ask(test.remote(BundleClient), 'getBundle', {
    outputMask: {
      x509Authorities: false,
      jwtAuthorities: true,
      refreshHint: false,
      sequenceNumber: false,
      witAuthorities: false,
    },
  })
  expect([masked.x509Authorities, masked.sequenceNumber, masked.trustDomain]).toEqual([
    [],
    0n,
    'prod.example',
  ])
})

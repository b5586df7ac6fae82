import { Metadata, status } from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import { workloadApi } from '../../../agent/workload-api/service.js'
import type { ValidationContext } from '../../../agent/workload-api/validate-jwt-svid.js'
import type { Log } from '../../../platform/log.js'
import { fakeAttestation } from '../../support/fake-attestation.js'
import { fakeIdentities } from '../../support/fake-identities.js'
import { answer, type LocalClient, received, security } from '../../support/local-client.js'
import { testEndpoint } from '../../support/local-endpoint.js'

type Call = (client: LocalClient, metadata: Metadata) => Promise<unknown>

const ending = async (stream: Parameters<typeof received>[0]) => {
  const { code, details } = await received(stream).ended
  throw Object.assign(new Error(details), { code, details })
}

const calls: [string, Call][] = [
  ['FetchX509SVID', ({ workload }, metadata) => ending(workload.fetchX509Svid({}, metadata))],
  ['FetchX509Bundles', ({ workload }, metadata) => ending(workload.fetchX509Bundles({}, metadata))],
  ['FetchJWTBundles', ({ workload }, metadata) => ending(workload.fetchJwtBundles({}, metadata))],
  ['FetchWITBundles', ({ workload }, metadata) => ending(workload.fetchWitBundles({}, metadata))],
  [
    'FetchWITSVID',
    ({ workload }, metadata) => ending(workload.fetchWitsvid({ spiffeId: '' }, metadata)),
  ],
  [
    'FetchJWTSVID',
    ({ workload }, metadata) =>
      answer((done) =>
        workload.fetchJwtsvid({ audience: ['orders'], spiffeId: '' }, metadata, done),
      ),
  ],
  [
    'ValidateJWTSVID',
    ({ workload }, metadata) =>
      answer((done) =>
        workload.validateJwtsvid({ audience: 'orders', svid: 'a.b.c' }, metadata, done),
      ),
  ],
  ['FollowPolicy', ({ sidecar }, metadata) => ending(sidecar.followPolicy(metadata))],
  [
    'ExplainIdentity',
    ({ diagnosis }, metadata) =>
      answer((done) => diagnosis.explainIdentity({ pid: 0 }, metadata, done)),
  ],
  ['Status', ({ diagnosis }, metadata) => answer((done) => diagnosis.status({}, metadata, done))],
]

const values: [string, Metadata][] = [
  ['no metadata', new Metadata()],
  ...['', 'True', 'TRUE', '1', 'yes', 'true ,', 'true, true'].map((value): [string, Metadata] => [
    `the value ${JSON.stringify(value)}`,
    security(value),
  ]),
]

describe.each(calls)('WE-8 WE-20 OPEN-17 %s', (_, call) => {
  test.each(values)('is refused with %s before anything else is done', async (_, metadata) => {
    const attestation = fakeAttestation()
    const identities = fakeIdentities()
    identities.setReady(false)
    await using endpoint = await testEndpoint({ identities, attestation })
    await expect(call(endpoint.client, metadata)).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: 'security header missing',
    })
    expect(attestation.looks).toBe(0)
  })
})

describe('the endpoint', () => {
  test.each(calls.filter(([rpc]) => rpc.includes('WIT')))(
    'WL-3 WL-68 ST-1 does not offer %s',
    async (_, call) => {
      await using endpoint = await testEndpoint({ attestation: fakeAttestation() })
      await expect(call(endpoint.client, security())).rejects.toMatchObject({
        code: status.UNIMPLEMENTED,
      })
    },
  )

  test.each([
    ['/SpiffeWorkloadAPI/FetchEverything'],
    ['/WorkloadAPI/FetchX509SVID'],
    ['/spiffe.SpiffeWorkloadAPI/FetchX509SVID'],
  ])('WE-28 WL-6 OPEN-14 does not know %s', async (path) => {
    await using endpoint = await testEndpoint({ attestation: fakeAttestation() })
    const empty = () => Buffer.alloc(0)
    const unknown = answer((done) =>
      endpoint.client.workload.makeUnaryRequest(path, empty, empty, {}, security(), done),
    )
    await expect(unknown).rejects.toMatchObject({ code: status.UNIMPLEMENTED })
  })

  test('WL-4 WL-5 WE-29 WE-30 serves the RPCs of the standard and adds none to its service', () => {
    const { definition } = workloadApi({} as ValidationContext)
    expect(
      Object.values(definition)
        .map(({ path }) => path)
        .sort(),
    ).toEqual(
      [
        'FetchJWTBundles',
        'FetchJWTSVID',
        'FetchWITBundles',
        'FetchWITSVID',
        'FetchX509Bundles',
        'FetchX509SVID',
        'ValidateJWTSVID',
      ].map((rpc) => `/SpiffeWorkloadAPI/${rpc}`),
    )
  })

  test('WE-9 WE-19 SP-2 asks callers for neither TLS nor credentials', async () => {
    const identities = fakeIdentities({ entries: [{ path: '/web', selectors: ['unix:uid:1000'] }] })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
    const stream = received(endpoint.client.workload.fetchX509Svid({}, security()))
    await expect(stream.next()).resolves.toBeDefined()
  })

  test('writes one line for each decision, without keys and tokens', async () => {
    const lines: { fields: Record<string, unknown>; message: string }[] = []
    const write = (fields: object, message: string) => {
      lines.push({ fields: { ...fields }, message })
    }
    const log: Log = { debug: () => {}, info: write, warn: write, error: write, child: () => log }
    const identities = fakeIdentities({ entries: [{ path: '/web', selectors: ['unix:uid:1000'] }] })
    await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation(), log })
    lines.length = 0
    const { workload } = endpoint.client
    const stream = received(workload.fetchX509Svid({}, security()))
    await stream.next()
    await answer((done) =>
      workload.fetchJwtsvid({ audience: ['orders'], spiffeId: '' }, security(), done),
    )
    await answer((done) =>
      workload.fetchJwtsvid({ audience: [], spiffeId: '' }, security(), done),
    ).catch(() => undefined)
    identities.setEntries([])
    await stream.ended

    expect(lines).toEqual([
      {
        message: 'stream opened',
        fields: expect.objectContaining({
          rpc: 'FetchX509SVID',
          pid: 4711,
          uid: 1000,
          spiffeIds: ['spiffe://prod.example/web'],
        }),
      },
      {
        message: 'call served',
        fields: expect.objectContaining({ spiffeIds: ['spiffe://prod.example/web'] }),
      },
      {
        message: 'call refused',
        fields: expect.objectContaining({ code: 'CS_AUDIENCE_MISSING' }),
      },
      { message: 'stream ended', fields: expect.objectContaining({ code: 'CS_NO_IDENTITY' }) },
    ])
    expect(JSON.stringify(lines)).not.toContain('eyJ')
  })
})

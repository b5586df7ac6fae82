import { stat } from 'node:fs/promises'
import { status } from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import { attestation } from '../../../agent/attestation/caller.js'
import { unixAttestor } from '../../../agent/attestation/unix.js'
import { systemClock } from '../../../platform/clock.js'
import { silentLog } from '../../../platform/log.js'
import type {
  ExplainIdentityResponse,
  StatusResponse,
} from '../../../proto/gen/countersign/agent/v1/local.js'
import { fakeAttestation } from '../../support/fake-attestation.js'
import { fakeIdentities } from '../../support/fake-identities.js'
import { answer, type LocalClient, localClient, security } from '../../support/local-client.js'
import { testEndpoint } from '../../support/local-endpoint.js'
import { startRelay } from '../../support/relay.js'
import { tempFolder } from '../../support/temp-folder.js'

const uid = `unix:uid:${process.getuid?.()}`
const byKernel = () =>
  attestation({ attestors: [unixAttestor({ clock: systemClock })], log: silentLog })

const explain = ({ diagnosis }: LocalClient, pid = 0) =>
  answer<ExplainIdentityResponse>((done) => diagnosis.explainIdentity({ pid }, security(), done))
const tell = ({ diagnosis }: LocalClient) =>
  answer<StatusResponse>((done) => diagnosis.status({}, security(), done))

describe('on the public socket', () => {
  test('a process learns what is seen of it and which entry is nearest', async () => {
    const identities = fakeIdentities({
      entries: [
        { path: '/web', selectors: [uid, 'unix:path:/opt/web'] },
        { path: '/stranger', selectors: ['k8s:ns:secret'] },
      ],
    })
    await using endpoint = await testEndpoint({ identities, attestation: byKernel() })
    const answered = await explain(endpoint.client)
    expect(answered).toMatchObject({
      pid: process.pid,
      code: 'CS_NO_IDENTITY',
      considered: 2,
      candidates: [
        {
          entryId: '/web',
          spiffeId: 'spiffe://prod.example/web',
          matches: false,
          missing: [{ type: 'unix', value: 'path:/opt/web' }],
          svidReady: true,
        },
      ],
    })
    expect(answered.selectors).toContainEqual({ type: 'unix', value: `path:${process.execPath}` })
    expect(await explain(endpoint.client, process.pid)).toEqual(answered)
  })

  test('a process learns its identity and until when its SVID is good', async () => {
    const identities = fakeIdentities({ entries: [{ path: '/web', selectors: [uid] }] })
    await using endpoint = await testEndpoint({ identities, attestation: byKernel() })
    const { code, explanation, candidates } = await explain(endpoint.client)
    const [leaf] = identities.x509Svid(identities.entries()[0]!)!.chain
    expect({ code, explanation }).toEqual({ code: '', explanation: 'is spiffe://prod.example/web' })
    expect(candidates[0]).toMatchObject({
      matches: true,
      svidReady: true,
      svidExpiresAt: BigInt(leaf.notAfter / 1000),
    })
  })

  test.each([[1], [-1], [2 ** 31 - 1]])('nobody learns anything about process %i', async (pid) => {
    await using endpoint = await testEndpoint({ attestation: byKernel() })
    await expect(explain(endpoint.client, pid)).rejects.toMatchObject({
      code: status.PERMISSION_DENIED,
    })
  })

  test('the agent tells how it is', async () => {
    const identities = fakeIdentities({ entries: [{ path: '/web', selectors: [uid] }] })
    await using endpoint = await testEndpoint({ identities, attestation: byKernel() })
    expect(await tell(endpoint.client)).toEqual({
      agentId: 'spiffe://prod.example/spire/agent/join_token/fake',
      serialNumber: '2a',
      svidExpiresAt: 2_000_000_000n,
      lastSyncAt: 1_900_000_000n,
      connected: true,
      sequence: 7n,
      entries: 1,
      x509Svids: 1,
      jwtSvids: 0,
      sockets: [endpoint.path],
      trustDomains: ['prod.example'],
    })
  })

  test('explains also while the agent is not ready', async () => {
    const identities = fakeIdentities()
    identities.setReady(false)
    await using endpoint = await testEndpoint({ identities, attestation: byKernel() })
    expect((await explain(endpoint.client)).code).toBe('CS_IDENTITIES_NOT_READY')
  })
})

describe('on the private socket', () => {
  test('any process is explained', async () => {
    const identities = fakeIdentities({ entries: [{ path: '/web', selectors: [uid] }] })
    await using folder = await tempFolder()
    await using endpoint = await testEndpoint({ identities, attestation: byKernel() })
    await using relay = await startRelay({ agentPath: endpoint.path, path: folder.file('relay') })
    using client = localClient(endpoint.privatePath)
    expect(await explain(client, relay.pid)).toMatchObject({ pid: relay.pid, code: '' })
    expect(await explain(client)).toMatchObject({ pid: process.pid, code: '' })
  })

  test.each([[-5], [2 ** 22 + 17]])('process %i is not found', async (pid) => {
    await using endpoint = await testEndpoint({ attestation: byKernel() })
    using client = localClient(endpoint.privatePath)
    await expect(explain(client, pid)).rejects.toMatchObject({ code: status.NOT_FOUND })
  })

  test('only the user of the agent may connect, and root', async () => {
    await using endpoint = await testEndpoint({ attestation: byKernel() })
    expect((await stat(endpoint.privatePath)).mode & 0o777).toBe(0o600)
    // The fake says that everybody is user 1000.
    const asOther = fakeAttestation()
    await using other = await testEndpoint({ attestation: asOther })
    using client = localClient(other.privatePath)
    const outcome = tell(client)
    if (process.getuid?.() === 1000) await expect(outcome).resolves.toBeDefined()
    else await expect(outcome).rejects.toMatchObject({ code: status.UNAVAILABLE })
  })

  test('there is no Workload API', async () => {
    await using endpoint = await testEndpoint({ attestation: byKernel() })
    using client = localClient(endpoint.privatePath)
    const call = answer((done) =>
      client.workload.fetchJwtsvid({ audience: ['a'], spiffeId: '' }, security(), done),
    )
    await expect(call).rejects.toMatchObject({ code: status.UNIMPLEMENTED })
  })
})

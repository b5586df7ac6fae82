import { status } from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import { AgentError } from '../../../agent/errors.js'
import { watchSockets } from '../../../agent/metrics.js'
import { journal } from '../../../agent/workload-api/journal.js'
import { createMetrics } from '../../../platform/metrics.js'
import { fakeAttestation } from '../../support/fake-attestation.js'
import { fakeClock } from '../../support/fake-clock.js'
import { fakeIdentities } from '../../support/fake-identities.js'
import { answer, received, security } from '../../support/local-client.js'
import { testEndpoint } from '../../support/local-endpoint.js'
import { memoryLog } from '../../support/memory-log.js'
import { until } from '../../support/until.js'

const refusal = new AgentError('CS_AUDIENCE_MISSING', 'request names no audience')
const connectionOf = (uid: number) => ({
  caller: { ...fakeAttestation().processWithPid(1), uid },
  path: '/run/x.sock',
})

describe('the journal', () => {
  test('says who was refused what, and why', () => {
    const log = memoryLog()
    const { refused } = journal({ clock: fakeClock(), log })
    refused({ rpc: 'FetchJWTSVID', connection: connectionOf(7) }, refusal)
    expect(log.lines).toEqual([
      expect.objectContaining({
        level: 'info',
        message: 'call refused',
        rpc: 'FetchJWTSVID',
        uid: 7,
        pid: 4711,
        code: 'CS_AUDIENCE_MISSING',
      }),
    ])
  })

  test('is not filled by one user, counts on, and says later how much it left out', async () => {
    const log = memoryLog()
    const clock = fakeClock()
    const codes: string[] = []
    const { refused } = journal({ clock, log, onRefusal: (code) => codes.push(code) })
    const hostile = { rpc: 'FetchJWTSVID', connection: connectionOf(7) }
    for (let at = 0; at < 10_000; at += 1) refused(hostile, refusal)
    expect(log.lines).toHaveLength(500)
    expect(codes).toHaveLength(10_000)

    refused({ ...hostile, connection: connectionOf(8) }, refusal)
    expect(log.lines.at(-1)).toMatchObject({ uid: 8, message: 'call refused' })

    await clock.advance(1000)
    refused(hostile, refusal)
    expect(log.lines.slice(-2)).toEqual([
      expect.objectContaining({ uid: 7, lines: 9500, message: 'lines about a user left out' }),
      expect.objectContaining({ uid: 7, message: 'call refused' }),
    ])
    for (let at = 0; at < 100; at += 1) refused(hostile, refusal)
    expect(log.lines).toHaveLength(500 + 1 + 2 + 19)
  })
})

test('connections, streams and refusals of the local sockets are figures', async () => {
  const identities = fakeIdentities({ entries: [{ path: '/web', selectors: ['unix:uid:1000'] }] })
  await using endpoint = await testEndpoint({ identities, attestation: fakeAttestation() })
  const metrics = createMetrics()
  watchSockets(metrics, endpoint.endpoints)
  const { workload } = endpoint.client
  const stream = received(workload.fetchX509Svid({}, security()))
  await stream.next()
  const bare = { audience: [], spiffeId: '' }
  await expect(
    answer((done) => workload.fetchJwtsvid(bare, security(), done)),
  ).rejects.toMatchObject({ code: status.INVALID_ARGUMENT })
  const text = await metrics.text()
  expect(text).toContain('countersign_workload_api_connections 1\n')
  expect(text).toContain('countersign_workload_api_streams 1\n')
  expect(text).toContain('countersign_workload_api_refusals_total{reason="CS_AUDIENCE_MISSING"} 1')

  identities.setEntries([])
  await stream.ended
  await until(() => endpoint.endpoints.streams() === 0)
  expect(await metrics.text()).toContain(
    'countersign_workload_api_refusals_total{reason="CS_NO_IDENTITY"} 1',
  )
})

import { expect, test } from 'vitest'
import { type RunningAgent, startAgent } from '../../agent/agent.js'
import { systemClock } from '../../platform/clock.js'
import { createMetrics } from '../../platform/metrics.js'
import { systemRandom } from '../../platform/random.js'
import { AgentClient } from '../../proto/gen/spire/api/server/agent/v1/agent.js'
import { EntryClient } from '../../proto/gen/spire/api/server/entry/v1/entry.js'
import { Entry } from '../../proto/gen/spire/api/types/types.js'
import { pathOf, type SpiffeId, verifyJwtSvid, verifyX509Svid } from '../../spiffe/index.js'
import { ask, runningIn, type TestSentry, trustDomain } from '../sentry/running-sentry.js'
import { memoryLog } from '../support/memory-log.js'
import { tempFolder } from '../support/temp-folder.js'
import { until } from '../support/until.js'
import { stateFileIn, untilHeld } from './running-agent.js'

/** The agent against the sentry of this house, both real, on real time. */

const soon = () => AbortSignal.timeout(15_000)

async function agentOf(
  sentry: TestSentry,
  folder: Awaited<ReturnType<typeof tempFolder>>,
  joinToken?: string,
): Promise<RunningAgent> {
  return await startAgent({
    trustDomain,
    sentries: [`127.0.0.1:${sentry.sentry.address.port}`],
    trustBundle: sentry.sentry.bundle(),
    stateFile: await stateFileIn(folder),
    version: '0.1.0-test',
    clock: systemClock,
    random: systemRandom,
    log: memoryLog(),
    metrics: createMetrics(),
    ...(joinToken !== undefined && { joinToken }),
  })
}

async function tokenOf(sentry: TestSentry): Promise<string> {
  const request = { ttl: 600, token: '', agentId: undefined }
  return (await ask(sentry.local(AgentClient), 'createJoinToken', request)).value
}

async function createEntry(sentry: TestSentry, parent: SpiffeId, path: string): Promise<string> {
  const { results } = await ask(sentry.local(EntryClient), 'batchCreateEntry', {
    outputMask: undefined,
    entries: [
      Entry.fromPartial({
        spiffeId: { trustDomain, path },
        parentId: { trustDomain, path: pathOf(parent) },
        selectors: [{ type: 'unix', value: 'uid:1000' }],
      }),
    ],
  })
  expect(results[0]?.status?.code).toBe(0)
  return results[0]?.entry?.id ?? ''
}

test('attests, gets what is registered as it is registered, and is told of every change', async () => {
  await using folder = await tempFolder()
  await using home = await tempFolder()
  await using sentry = await runningIn(folder)
  await using agent = await agentOf(sentry, home, await tokenOf(sentry))
  const { identities } = agent
  await agent.whenReady(soon())
  const id = identities.status().agentId!

  const started = performance.now()
  const entryId = await createEntry(sentry, id, '/shop')
  await untilHeld(agent, () => identities.status().x509Svids === 1)
  console.log(`entry created to SVID in hand: ${(performance.now() - started).toFixed(1)} ms`)
  const [held] = identities.entriesFor([{ type: 'unix', value: 'uid:1000' }])
  const svid = identities.x509Svid(held!)!
  const chain = svid.chain.map(({ der }) => der)
  expect(verifyX509Svid({ chain, bundles: identities, now: new Date() }).id).toBe(
    'spiffe://prod.example/shop',
  )
  const { token } = await identities.jwtSvid({ entry: held!, audience: ['orders'], signal: soon() })
  const jwt = verifyJwtSvid({ token, bundles: identities, audience: 'orders', now: new Date() })
  expect(jwt.id).toBe('spiffe://prod.example/shop')

  await ask(sentry.local(EntryClient), 'batchDeleteEntry', { ids: [entryId] })
  await untilHeld(agent, () => identities.entries().length === 0)
  expect(identities.x509Svid(held!)).toBeUndefined()
})

test('a ban at the sentry ends all service at once', async () => {
  await using folder = await tempFolder()
  await using home = await tempFolder()
  await using sentry = await runningIn(folder)
  await using agent = await agentOf(sentry, home, await tokenOf(sentry))
  await agent.whenReady(soon())
  const id = agent.identities.status().agentId!
  await createEntry(sentry, id, '/shop')
  await untilHeld(agent, () => agent.identities.status().x509Svids === 1)
  await ask(sentry.local(AgentClient), 'banAgent', { id: { trustDomain, path: pathOf(id) } })
  await untilHeld(agent, () => agent.identities.entries().length === 0)
  expect(agent.identities.status().problem?.code).toBe('CS_BANNED_BY_SENTRY')
})

test('goes on after a restart of either, with the same identity', async () => {
  await using folder = await tempFolder()
  await using home = await tempFolder()
  let sentry = await runningIn(folder)
  const { port } = sentry.sentry.address
  const first = await agentOf(sentry, home, await tokenOf(sentry))
  await first.whenReady(soon())
  const { agentId, serialNumber } = first.identities.status()
  await createEntry(sentry, agentId!, '/shop')
  await untilHeld(first, () => first.identities.status().x509Svids === 1)

  await sentry[Symbol.asyncDispose]()
  await until(() => !first.identities.status().connected)
  sentry = await runningIn(folder, { listen: { host: '127.0.0.1', port } })
  await until(() => first.identities.status().connected)
  await createEntry(sentry, agentId!, '/orders')
  await untilHeld(first, () => first.identities.status().x509Svids === 2)
  await first.close()

  await using second = await agentOf(sentry, home)
  await second.whenReady(soon())
  await until(() => second.identities.status().connected)
  expect(second.identities.status()).toMatchObject({ agentId, serialNumber, x509Svids: 2 })
  await sentry[Symbol.asyncDispose]()
})

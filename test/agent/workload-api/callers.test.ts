import { chmod } from 'node:fs/promises'
import { status } from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { attestation } from '../../../agent/attestation/caller.js'
import { unixAttestor } from '../../../agent/attestation/unix.js'
import { type LocalEndpoints, openLocalEndpoints } from '../../../agent/local/endpoints.js'
import { systemClock } from '../../../platform/clock.js'
import { silentLog } from '../../../platform/log.js'
import { parseCertificate, spiffeIdIn, splitCertificates } from '../../../spiffe/index.js'
import type { JWTSVIDResponse, X509SVIDResponse } from '../../../spiffe/workload-api/index.js'
import { type FakeIdentities, fakeIdentities } from '../../support/fake-identities.js'
import {
  answer,
  type LocalClient,
  localClient,
  received,
  security,
} from '../../support/local-client.js'
import { compiledRelay, isRoot, otherBinary, startRelay } from '../../support/relay.js'
import { seededRandom } from '../../support/seeded-random.js'
import { type TempFolder, tempFolder } from '../../support/temp-folder.js'
import { notRoot } from '../../support/tools.js'

const denied = { code: status.PERMISSION_DENIED, details: 'no identity issued' }
const FIRST_UID = 61_001

let dir: TempFolder
let program: string | undefined
let sockets = 0

beforeAll(async () => {
  dir = await tempFolder()
  // Callers under other users make their sockets here.
  await chmod(dir.path, 0o1777)
  program = compiledRelay(dir.file('relay'))
})
afterAll(() => dir[Symbol.asyncDispose]())

function nextPath(): string {
  sockets += 1
  return dir.file(`s${sockets}`)
}

interface Agent extends AsyncDisposable {
  readonly path: string
  readonly identities: FakeIdentities
  readonly endpoints: LocalEndpoints
}

async function agent(identities: FakeIdentities): Promise<Agent> {
  const path = nextPath()
  const endpoints = await openLocalEndpoints({
    identities,
    clock: systemClock,
    random: seededRandom(3),
    log: silentLog,
    attestation: attestation({
      attestors: [unixAttestor({ clock: systemClock })],
      log: silentLog,
    }),
    sockets: [{ path }],
  })
  return { path, identities, endpoints, [Symbol.asyncDispose]: () => endpoints.close() }
}

const everyone = () =>
  fakeIdentities({ entries: [{ path: '/web', selectors: [`unix:uid:${process.getuid?.()}`] }] })

const fetchJwt = (client: LocalClient) =>
  answer<JWTSVIDResponse>((done) =>
    client.workload.fetchJwtsvid({ audience: ['orders'], spiffeId: '' }, security(), done),
  )

describe('a process behind an open connection', () => {
  test('is served as long as it is what it was', async () => {
    await using served = await agent(everyone())
    await using relay = await startRelay({ agentPath: served.path, path: nextPath() })
    using client = localClient(relay.path)
    const stream = received(client.workload.fetchX509Svid({}, security()))
    await stream.next()
    served.identities.issue()
    await expect(stream.next()).resolves.toBeDefined()
  })

  test.each<[string, () => string | undefined]>([
    ['in a child of Node', () => undefined],
    ['in a forked child', () => program],
  ])('gets nothing more when it has ended and lives on %s', async (_, which) => {
    const chosen = which()
    await using served = await agent(everyone())
    await using relay = await startRelay({
      agentPath: served.path,
      path: nextPath(),
      ...(chosen && { program: chosen }),
    })
    using client = localClient(relay.path)
    const stream = received(client.workload.fetchX509Svid({}, security()))
    await stream.next()
    await relay.command('handover')
    served.identities.issue()
    expect(await stream.ended).toEqual(denied)
    expect(stream.waiting()).toBe(0)
  })

  test('gets nothing more on a stream when it has executed another binary', async ({ skip }) => {
    if (!program) return skip('needs a C compiler')
    await using served = await agent(everyone())
    await using relay = await startRelay({ agentPath: served.path, path: nextPath(), program })
    using client = localClient(relay.path)
    const stream = received(client.workload.fetchX509Svid({}, security()))
    await stream.next()
    await relay.command(`exec ${otherBinary(program)}`)
    served.identities.issue()
    expect(await stream.ended).toEqual(denied)
    expect(stream.waiting()).toBe(0)
  })

  test.runIf(isRoot)('gets nothing more when it has taken another user', async () => {
    await using served = await agent(everyone())
    await using relay = await startRelay({ agentPath: served.path, path: nextPath() })
    using client = localClient(relay.path)
    const stream = received(client.workload.fetchX509Svid({}, security()))
    await stream.next()
    await relay.command(`setuid ${FIRST_UID}`)
    served.identities.issue()
    expect(await stream.ended).toEqual(denied)
  })
})

describe.skipIf(notRoot('twelve workloads under twelve users'))(
  'twelve workloads under twelve users at the same time',
  () => {
    const uids = Array.from({ length: 12 }, (_, at) => FIRST_UID + at)
    const idOf = (uid: number) => `spiffe://prod.example/user-${uid}`
    const twelve = () =>
      fakeIdentities({
        entries: uids.map((uid) => ({ path: `/user-${uid}`, selectors: [`unix:uid:${uid}`] })),
      })

    test('WL-7 each get exactly their own identity, unary and streaming, through rotations', async () => {
      await using served = await agent(twelve())
      await using workloads = await startAll(uids, served.path)
      const streams = workloads.clients.map(follow)
      for (let rotation = 0; rotation < 3; rotation += 1) {
        const pushed = await Promise.all(streams.map((stream) => stream.next()))
        expect(pushed.map(idsIn)).toEqual(uids.map((uid) => [idOf(uid)]))
        const tokens = await Promise.all(workloads.clients.map(fetchJwt))
        expect(tokens.map(({ svids }) => svids.map(({ spiffeId }) => spiffeId))).toEqual(
          uids.map((uid) => [idOf(uid)]),
        )
        expect(streams.map((stream) => stream.waiting())).toEqual(uids.map(() => 0))
        served.identities.issue()
      }
    })

    test('get nothing of each other when one is withdrawn', async () => {
      await using served = await agent(twelve())
      await using workloads = await startAll(uids, served.path)
      const streams = workloads.clients.map(follow)
      await Promise.all(streams.map((stream) => stream.next()))
      const others = uids.slice(1)
      served.identities.setEntries(
        others.map((uid) => ({ path: `/user-${uid}`, selectors: [`unix:uid:${uid}`] })),
      )
      expect(await streams[0]!.ended).toEqual(denied)
      served.identities.issue()
      const pushed = await Promise.all(streams.slice(1).map((stream) => stream.next()))
      expect(pushed.map(idsIn)).toEqual(others.map((uid) => [idOf(uid)]))
    })
  },
)

const follow = ({ workload }: LocalClient) => received(workload.fetchX509Svid({}, security()))

interface Workloads extends AsyncDisposable {
  readonly clients: readonly LocalClient[]
}

/** A process under each user, and a client that calls as that process. */
async function startAll(uids: readonly number[], agentPath: string): Promise<Workloads> {
  const relays = await Promise.all(
    uids.map((uid) => startRelay({ agentPath, path: nextPath(), uid })),
  )
  const clients = relays.map(({ path }) => localClient(path))
  return {
    clients,
    async [Symbol.asyncDispose]() {
      for (const client of clients) client[Symbol.dispose]()
      await Promise.all(relays.map((relay) => relay[Symbol.asyncDispose]()))
    },
  }
}

/** What the certificates say, and not only the message around them. */
function idsIn({ svids }: X509SVIDResponse): string[] {
  return svids.map(({ spiffeId, x509Svid }) => {
    const [leaf] = splitCertificates(x509Svid)
    expect(spiffeIdIn(parseCertificate(leaf!))).toBe(spiffeId)
    return spiffeId
  })
}

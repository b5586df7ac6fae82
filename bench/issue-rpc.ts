import { type ChildProcess, fork } from 'node:child_process'
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Client, credentials, type ServiceError } from '@grpc/grpc-js'
import { systemClock } from '../platform/clock.js'
import { silentLog } from '../platform/log.js'
import { createMetrics } from '../platform/metrics.js'
import { systemRandom } from '../platform/random.js'
import { openSealer } from '../platform/sealer.js'
import {
  AgentClient,
  type AttestAgentResponse,
} from '../proto/gen/spire/api/server/agent/v1/agent.js'
import { EntryClient } from '../proto/gen/spire/api/server/entry/v1/entry.js'
import { SVIDClient } from '../proto/gen/spire/api/server/svid/v1/svid.js'
import { Entry } from '../proto/gen/spire/api/types/types.js'
import { openAuthorities } from '../sentry/authorities/authorities.js'
import { proveKeyPossession } from '../sentry/csr.js'
import { issuePipeline } from '../sentry/issue.js'
import type { PolicyCompiler } from '../sentry/policy/compiler.js'
import { type RunningSentry, startSentry } from '../sentry/server.js'
import { bitString, contextTag, oid, sequence, tlv } from '../spiffe/asn1/index.js'
import { spiffeChannelCredentials } from '../spiffe/grpc/index.js'
import {
  authorize,
  bundleSet,
  makeSpiffeId,
  parseSpiffeId,
  parseTrustDomain,
  parseX509Svid,
  pathOf,
  peerVerifier,
  readBundleDocument,
  type SpiffeId,
  writeBundleDocument,
  type X509Svid,
} from '../spiffe/index.js'
import { bundleStore } from '../trust-bundles/store.js'

/**
 * PF-2: certificates out of the issue RPC over mTLS against certificates out of the pipeline in the same
 * process. The load comes from a process of its own; what is compared is the time of the sentry's core
 * that a certificate costs. Rounds alternate, so that whatever else the machine does falls on each alike.
 */
const ROUNDS = 15
const WARM_UP_ROUNDS = 4
const SINGLE_CALLS = 600
const IN_FLIGHT = 16
const BATCHES = 3
const BATCH = 500
const REQUESTS = 64

const trustDomain = parseTrustDomain('bench.example')
const shared = { trustDomain, clock: systemClock, random: systemRandom }

interface Start {
  readonly token: string
  readonly bundle: string
  readonly port: number
}
interface Load {
  readonly calls: number
  readonly batch: number
  readonly inFlight: number
}

const noPolicies: PolicyCompiler = {
  admit: () => [],
  admitRemoval: () => undefined,
  keysOfDocument: () => [],
  keysOfTarget: () => [],
  contentKey: ({ target }) => target,
  snapshot: () => ({ bytes: new Uint8Array(), id: '' }),
}

if (process.send) await generateLoad()
else await serve()

async function serve(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'cs-bench-'))
  const sentry = await openSentry(folder)
  const load = fork(fileURLToPath(import.meta.url), { stdio: 'inherit' })
  try {
    await prepare(sentry, load)
    await measure(load)
  } finally {
    load.kill()
    await sentry.close()
    await rm(folder, { recursive: true, force: true })
  }
}

async function measure(load: ChildProcess): Promise<void> {
  const inProcess = await makePipeline()
  const remote = async (work: Load) => {
    load.send(work)
    await once(load, 'message')
  }
  const rounds = {
    pipeline: { certificates: SINGLE_CALLS, run: () => inProcess(SINGLE_CALLS) },
    single: {
      certificates: SINGLE_CALLS,
      run: () => remote({ calls: SINGLE_CALLS, batch: 1, inFlight: IN_FLIGHT }),
    },
    [`batch of ${BATCH}`]: {
      certificates: BATCHES * BATCH,
      run: () => remote({ calls: BATCHES, batch: BATCH, inFlight: 1 }),
    },
  }
  const samples = new Map(Object.keys(rounds).map((name) => [name, [] as number[]]))
  for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round += 1) {
    for (const [name, { certificates, run }] of Object.entries(rounds)) {
      const before = process.cpuUsage()
      await run()
      const { user, system } = process.cpuUsage(before)
      if (round >= 0) samples.get(name)?.push((user + system) / certificates)
    }
  }
  const reference = samples.get('pipeline') ?? []
  for (const [name, spent] of samples) {
    // The ratio is the median of those of each round, which a busy machine moves least.
    const ratio = median(spent.map((time, round) => (reference[round] ?? Number.NaN) / time))
    const rate = Math.round(1e6 / median(spent))
    console.log(
      `PF-2  ratio ${ratio.toFixed(2)}  ${name} ${median(spent).toFixed(0)} µs of one core (${rate}/s)`,
    )
  }
}

async function openSentry(folder: string): Promise<RunningSentry> {
  return startSentry({
    ...shared,
    dataFolder: join(folder, 'data'),
    sealer: await openSealer({ kind: 'key', bytes: systemRandom.bytes(32) }),
    listen: { host: '127.0.0.1', port: 0 },
    adminSocket: { path: join(folder, 'admin', 'sentry.sock') },
    bundles: bundleStore(),
    compiler: noPolicies,
    metrics: createMetrics(),
    log: silentLog,
    rateLimits: 'off',
  })
}

/** Lets the load attest and gives it an entry. */
async function prepare({ adminSocket, bundle, address }: RunningSentry, load: ChildProcess) {
  const local = [`unix:${adminSocket}`, credentials.createInsecure()] as const
  const agents = new AgentClient(...local)
  const entries = new EntryClient(...local)
  const { value: token } = await answerOf<{ value: string }>((done) =>
    agents.createJoinToken({ ttl: 60, token: '', agentId: undefined }, done),
  )
  const start: Start = { token, bundle: writeBundleDocument(bundle()), port: address.port }
  load.send(start)
  const [agentId] = (await once(load, 'message')) as [string]
  const entry = Entry.create({
    id: 'app',
    spiffeId: { trustDomain, path: '/ns/prod/sa/orders' },
    parentId: { trustDomain, path: pathOf(agentId as SpiffeId) },
    selectors: [{ type: 'unix', value: 'uid:1000' }],
  })
  await answerOf((done) =>
    entries.batchCreateEntry({ entries: [entry], outputMask: undefined }, done),
  )
  for (const client of [agents, entries]) client.close()
}

async function makePipeline(): Promise<(certificates: number) => void> {
  const file = { read: () => Promise.resolve(undefined), write: () => Promise.resolve() }
  const authorities = await openAuthorities({ ...shared, file })
  const pipeline = issuePipeline({ ...shared, authorities, audit: { record: () => {} } })
  const requests = makeRequests()
  const id = parseSpiffeId('spiffe://bench.example/ns/prod/sa/orders')
  return (certificates) => {
    for (let turn = 0; turn < certificates; turn += 1) {
      const key = proveKeyPossession(at(requests, turn))
      pipeline.x509({ key, id, dnsNames: [], ttlSeconds: 3600, requester: 'bench' })
    }
  }
}

/** The other process: attests, then asks for as many certificates as it is told to. */
async function generateLoad(): Promise<void> {
  const [start] = (await once(process, 'message')) as [Start]
  const svid = await attest(start)
  const client = clientOf(SVIDClient, start, svid)
  const requests = makeRequests()
  process.on('message', (load: Load) => void answerLoad(client, requests, load))
  process.send?.(svid.id)
}

async function answerLoad(
  client: SVIDClient,
  requests: readonly Uint8Array[],
  { calls, batch, inFlight }: Load,
): Promise<void> {
  let left = calls
  const lane = async () => {
    while (left > 0) {
      left -= 1
      const params = Array.from({ length: batch }, (_, turn) => ({
        entryId: 'app',
        csr: at(requests, left + turn),
      }))
      const { results } = await answerOf<{ results: { status?: { code: number } | undefined }[] }>(
        (done) => client.batchNewX509Svid({ params }, done),
      )
      if (results.some(({ status }) => status?.code !== 0)) throw new Error('not issued')
    }
  }
  await Promise.all(Array.from({ length: inFlight }, lane))
  process.send?.('done')
}

async function attest(start: Start): Promise<X509Svid> {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const client = clientOf(AgentClient, start)
  const call = client.attestAgent()
  const params = {
    data: { type: 'join_token', payload: Buffer.from(start.token) },
    params: { csr: requestFor(publicKey, privateKey) },
  }
  call.write({ step: { $case: 'params', value: params } })
  const [answer] = (await once(call, 'data')) as [AttestAgentResponse]
  call.end()
  if (answer.step?.$case !== 'result') throw new Error('attestation failed')
  return parseX509Svid({
    chain: answer.step.value.svid?.certChain ?? [],
    privateKeyDer: privateKey.export({ type: 'pkcs8', format: 'der' }),
  })
}

function clientOf<C extends Client>(
  constructor: new (address: string, creds: ReturnType<typeof credentials.createInsecure>) => C,
  { bundle, port }: Start,
  identity?: X509Svid,
): C {
  const held = bundleSet([readBundleDocument(Buffer.from(bundle), trustDomain)])
  return new constructor(
    `127.0.0.1:${port}`,
    spiffeChannelCredentials({
      verifier: peerVerifier({ bundles: held }),
      authorize: authorize.id(makeSpiffeId(trustDomain, '/spire/server')),
      now: () => systemClock.now(),
      ...(identity && { identity: { x509Svid: () => identity } }),
    }),
  )
}

function answerOf<A>(
  call: (done: (error: ServiceError | null, answer: A) => void) => unknown,
): Promise<A> {
  return new Promise((resolve, reject) => {
    call((error, answer) => (error ? reject(error) : resolve(answer)))
  })
}

function makeRequests(): readonly Uint8Array[] {
  return Array.from({ length: REQUESTS }, () => {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    return requestFor(publicKey, privateKey)
  })
}

/** A PKCS#10 request without subject, as an agent of ours sends it. */
function requestFor(publicKey: KeyObject, privateKey: KeyObject): Uint8Array {
  const info = sequence(
    Uint8Array.of(2, 1, 0),
    sequence(),
    publicKey.export({ type: 'spki', format: 'der' }),
    tlv(contextTag(0)),
  )
  const ecdsaWithSha256 = sequence(oid('1.2.840.10045.4.3.2'))
  return sequence(info, ecdsaWithSha256, bitString(sign('sha256', info, privateKey)))
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}

function at<T>(items: readonly T[], turn: number): T {
  const item = items[turn % items.length]
  if (item === undefined) throw new Error('there is no item')
  return item
}

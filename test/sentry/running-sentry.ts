import { type KeyObject, randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type CallOptions,
  type ChannelCredentials,
  type Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js'
import { systemClock } from '../../platform/clock.js'
import { silentLog } from '../../platform/log.js'
import { createMetrics } from '../../platform/metrics.js'
import { systemRandom } from '../../platform/random.js'
import { openSealer, sealedFile } from '../../platform/sealer.js'
import { AgentClient } from '../../proto/gen/spire/api/server/agent/v1/agent.js'
import type { X509SVID } from '../../proto/gen/spire/api/types/types.js'
import { type AuditRecord, readAuditLine } from '../../sentry/audit/audit-log.js'
import type { AuditType } from '../../sentry/audit/event.js'
import { openAuthorities } from '../../sentry/authorities/authorities.js'
import { type RunningSentry, type SentryOptions, startSentry } from '../../sentry/server.js'
import { spiffeChannelCredentials } from '../../spiffe/grpc/index.js'
import {
  authorize,
  bundleSet,
  makeSpiffeId,
  parseTrustDomain,
  parseX509Svid,
  peerVerifier,
  type X509Svid,
} from '../../spiffe/index.js'
import { bundleStore } from '../../trust-bundles/store.js'
import { ecKeys, makeCsr } from '../support/csr.js'
import { lineCompiler } from '../support/policy-compiler.js'
import { type TempFolder, tempFolder } from '../support/temp-folder.js'

export const trustDomain = parseTrustDomain('prod.example')

type ClientConstructor<C extends Client> = new (
  address: string,
  channelCredentials: ChannelCredentials,
  options?: Record<string, unknown>,
) => C

/** A sentry on real sockets in a folder of its own, and clients of it. */
export interface TestSentry extends AsyncDisposable {
  readonly folder: TempFolder
  readonly sentry: RunningSentry
  /** Over the admin socket. */
  local<C extends Client>(constructor: ClientConstructor<C>): C
  /** Over the network, with an SVID or without one. */
  remote<C extends Client>(constructor: ClientConstructor<C>, identity?: X509Svid): C
  /** Attests with a fresh join token. */
  attest(options?: { readonly alias?: string }): Promise<AttestedAgent>
}

export interface AttestedAgent {
  readonly id: string
  readonly svid: X509Svid
}

/** Options that a restart in the same folder must have again. */
export async function sentryOptions(
  folder: TempFolder,
  changes: Partial<SentryOptions> = {},
): Promise<SentryOptions> {
  return {
    trustDomain,
    dataFolder: folder.file('data'),
    sealer: await openSealer({ kind: 'key', bytes: Buffer.alloc(32, 7) }),
    listen: { host: '127.0.0.1', port: 0 },
    adminSocket: { path: folder.file('admin/sentry.sock') },
    bundles: bundleStore(),
    compiler: lineCompiler(),
    metrics: createMetrics(),
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    rateLimits: 'off',
    ...changes,
  }
}

export async function testSentry(changes: Partial<SentryOptions> = {}): Promise<TestSentry> {
  const folder = await tempFolder()
  return runningIn(folder, changes, () => folder[Symbol.asyncDispose]())
}

/** In a folder that outlives the sentry. */
export async function runningIn(
  folder: TempFolder,
  changes: Partial<SentryOptions> = {},
  after: () => PromiseLike<void> = () => Promise.resolve(),
): Promise<TestSentry> {
  const options = await sentryOptions(folder, changes)
  if (!changes.lifetimes && !changes.sealer) await bringAuthorities(options)
  const sentry = await startSentry(options)
  const clients: Client[] = []
  let anonymous: AgentClient | undefined
  const made = <C extends Client>(client: C): C => {
    clients.push(client)
    return client
  }
  const test: TestSentry = {
    folder,
    sentry,
    local: (constructor) =>
      made(new constructor(`unix:${sentry.adminSocket}`, credentials.createInsecure())),
    remote: (constructor, identity) =>
      made(
        new constructor(
          `127.0.0.1:${sentry.address.port}`,
          spiffeChannelCredentials({
            verifier: peerVerifier({ bundles: bundleSet([sentry.bundle()]) }),
            authorize: authorize.id(makeSpiffeId(sentry.trustDomain, '/spire/server')),
            now: () => options.clock.now(),
            ...(identity && { identity: { x509Svid: () => identity } }),
          }),
        ),
      ),
    async attest({ alias } = {}) {
      const token = await ask(test.local(AgentClient), 'createJoinToken', {
        ttl: 600,
        token: '',
        agentId: alias ? { trustDomain: sentry.trustDomain, path: alias } : undefined,
      })
      anonymous ??= test.remote(AgentClient)
      return attestWith(anonymous, token.value)
    },
    async [Symbol.asyncDispose]() {
      for (const client of clients) client.close()
      await sentry.close()
      await after()
    },
  }
  return test
}

let authorities: Promise<Uint8Array> | undefined

/** The keys of a trust domain take longer to make than all the rest of a start, so a file makes them once. */
async function bringAuthorities({ dataFolder, sealer, trustDomain }: SentryOptions): Promise<void> {
  authorities ??= makeAuthorities()
  const fileIn = (path: string) =>
    sealedFile({
      path: join(path, 'authorities.sealed'),
      sealer,
      context: `authorities of ${trustDomain}`,
    })
  await mkdir(dataFolder, { recursive: true, mode: 0o700 }).catch(() => undefined)
  const file = fileIn(dataFolder)
  if (!existsSync(file.path)) await file.write(await authorities).catch(() => undefined)
}

async function makeAuthorities(): Promise<Uint8Array> {
  let kept: Uint8Array = new Uint8Array()
  const file = {
    read: () => Promise.resolve(undefined),
    write: (plain: Uint8Array) => {
      kept = plain
      return Promise.resolve()
    },
  }
  await openAuthorities({ trustDomain, file, clock: systemClock, random: systemRandom })
  return kept
}

/** What the audit log holds of one type. An answer leaves only after its record. */
export async function auditRecords(
  { folder }: Pick<TestSentry, 'folder'>,
  type: AuditType,
): Promise<readonly AuditRecord[]> {
  const lines = (await readFile(folder.file('data/audit.jsonl'), 'utf8')).trimEnd().split('\n')
  return lines.map(readAuditLine).filter((record) => record.type === type)
}

/** One attestation by join token with a fresh key. Rejects with the `ServiceError`. */
export async function attestWith(client: AgentClient, token: string): Promise<AttestedAgent> {
  const { csr, privateKey } = freshCsr()
  const call = client.attestAgent()
  call.write({
    step: {
      $case: 'params',
      value: {
        data: { type: 'join_token', payload: Buffer.from(token) },
        params: { csr },
      },
    },
  })
  const answer = await nextOf(call)
  call.end()
  if (answer?.step?.$case !== 'result') throw new Error('no result')
  return agentFrom(answer.step.value.svid, privateKey)
}

export function agentFrom(wire: X509SVID | undefined, privateKey: KeyObject): AttestedAgent {
  const chain = wire?.certChain ?? []
  const privateKeyDer = privateKey.export({ type: 'pkcs8', format: 'der' })
  const svid = parseX509Svid({ chain, privateKeyDer })
  return { id: svid.id, svid }
}

export function freshCsr(): { csr: Uint8Array; privateKey: KeyObject } {
  const keys = ecKeys()
  return { csr: makeCsr({ keys }), privateKey: keys.privateKey }
}

/** A token that nobody has. */
export function unknownToken(): string {
  return randomBytes(32).toString('base64url')
}

type Unary<Q, A> = (
  request: Q,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, answer: A) => void,
) => ClientUnaryCall
type UnaryName<C> = { [K in keyof C]: C[K] extends Unary<infer _Q, infer _A> ? K : never }[keyof C]
type RequestOf<F> = F extends Unary<infer Q, infer _A> ? Q : never
type AnswerOf<F> = F extends Unary<infer _Q, infer A> ? A : never

/** One unary call. Rejects with the `ServiceError`. */
export function ask<C extends Client, N extends UnaryName<C>>(
  client: C,
  name: N,
  request: RequestOf<C[N]>,
): Promise<AnswerOf<C[N]>> {
  return new Promise((resolve, reject) => {
    const method = client[name] as Unary<RequestOf<C[N]>, AnswerOf<C[N]>>
    const deadline = systemClock.now().getTime() + 30_000
    method.call(client, request, new Metadata(), { deadline }, (error, answer) => {
      if (error) reject(error)
      else resolve(answer)
    })
  })
}

/** The next message of a stream, or undefined at its end. Rejects with the `ServiceError`. */
export function nextOf<A>(
  call: ClientDuplexStream<never, A> | ClientReadableStream<A>,
): Promise<A | undefined> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      call.pause()
      call.off('data', onData)
      call.off('end', onEnd)
      call.off('error', onError)
      ignoreErrors(call as ClientReadableStream<never>)
    }
    const onData = (message: A) => {
      stop()
      resolve(message)
    }
    const onEnd = () => {
      stop()
      resolve(undefined)
    }
    const onError = (error: Error) => {
      stop()
      reject(error)
    }
    call.on('data', onData)
    call.on('end', onEnd)
    call.on('error', onError)
    call.resume()
  })
}

const ignored = new WeakSet<object>()

/** The error that a cancelled call ends with is nobody's. */
function ignoreErrors(call: ClientReadableStream<never> | ClientDuplexStream<never, never>): void {
  if (ignored.has(call)) return
  ignored.add(call)
  call.on('error', () => undefined)
}

/** The status and text that a call was refused with, and the reason code in its trailer. */
export async function refusalOf(call: Promise<unknown>): Promise<{
  readonly status: number
  readonly message: string
  readonly code: unknown
  readonly error: ServiceError
}> {
  const error = await call.then(
    () => {
      throw new Error('nothing was refused')
    },
    (thrown: ServiceError) => thrown,
  )
  const [code] = error.metadata.get('countersign-code')
  return { status: error.code, message: error.details, code, error }
}

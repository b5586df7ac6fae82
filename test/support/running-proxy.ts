import { once } from 'node:events'
import type { Socket } from 'node:net'
import { Writable } from 'node:stream'
import { connect, type TLSSocket } from 'node:tls'
import type { Clock } from '../../platform/clock.js'
import { silentLog } from '../../platform/log.js'
import { createMetrics, type Metrics } from '../../platform/metrics.js'
import {
  buildSnapshot,
  type CompiledPolicy,
  compileSnapshot,
  parseDocuments,
  readSnapshot,
} from '../../policies/index.js'
import type { AccessLogMode } from '../../sidecar/access-log.js'
import type { IdentitySource } from '../../sidecar/identity.js'
import type { PolicySource } from '../../sidecar/inbound-gate.js'
import { defaultLimits, type Limits } from '../../sidecar/limits.js'
import { type Proxy, startProxy } from '../../sidecar/proxy.js'
import type { InboundTunnel, OutboundTunnel } from '../../sidecar/tunnels.js'
import { bundleSet, SpiffeError, type TrustBundle, type X509Svid } from '../../spiffe/index.js'
import { secureContextOf } from '../../spiffe/tls/index.js'
import { type TestAuthority, testAuthority } from './authority.js'
import { seededRandom } from './seeded-random.js'

/** An identity that a test can change under the proxy. */
export interface TestIdentity extends IdentitySource {
  set(svid: X509Svid | undefined): void
  setBundles(bundles: readonly TrustBundle[]): void
}

export function testIdentity(svid: X509Svid, bundles: readonly TrustBundle[]): TestIdentity {
  const listeners = new Set<() => void>()
  let current: X509Svid | undefined = svid
  let held = bundleSet(bundles)
  const tell = () => {
    for (const listener of listeners) listener()
  }
  return {
    x509Svid() {
      if (!current) throw new SpiffeError('CS_NO_IDENTITY', 'no identity')
      return current
    },
    bundleFor: (trustDomain) => held.bundleFor(trustDomain),
    onChange(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    set(next) {
      current = next
      tell()
    },
    setBundles(next) {
      held = bundleSet(next)
      tell()
    },
  }
}

export interface TestPolicy extends PolicySource {
  set(policy: CompiledPolicy | undefined): void
}

export function testPolicy(first: CompiledPolicy | undefined): TestPolicy {
  const listeners = new Set<() => void>()
  let current = first
  return {
    current: () => current,
    onChange(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    set(next) {
      current = next
      for (const listener of listeners) listener()
    },
  }
}

/** The snapshot that the rules of one document, in YAML, come to for an app. */
export function policyOf(rules: string, target: X509Svid, generation = 1): CompiledPolicy {
  const text = `
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: { name: orders, namespace: shop }
spec:
  target: { app: orders }
  rules:
${rules.replaceAll(/^/gm, '    ')}
`
  const { bytes } = buildSnapshot({
    trustDomain: testTrustDomainOf(target),
    layout: 'kubernetes',
    target: target.id,
    documents: parseDocuments(text, 'test'),
    generation,
  })
  return compileSnapshot(readSnapshot(bytes))
}

/** Lets checkout do anything. */
export const ALLOW_CHECKOUT = `
- name: checkout
  from: [{ app: checkout }]
- name: tcp
  from: [{ app: checkout }]
  to: [{ tcp: true }]
`

/** Who is who in most tests: orders is called by checkout, and a stranger calls too. */
export function cast(options: { readonly now?: () => Date } = {}) {
  const authority = testAuthority('prod.test', options)
  return {
    authority,
    orders: authority.issueX509({ id: '/ns/shop/sa/orders' }),
    checkout: authority.issueX509({ id: '/ns/shop/sa/checkout' }),
    stranger: authority.issueX509({ id: '/ns/other/sa/stranger' }),
  }
}

export interface TestProxyOptions {
  readonly identity: IdentitySource
  readonly policy: PolicySource
  readonly inbound?: readonly InboundTunnel[]
  readonly outbound?: readonly OutboundTunnel[]
  readonly limits?: Limits
  readonly clock?: Clock
  readonly accessLog?: AccessLogMode
}

export interface TestProxy extends AsyncDisposable {
  readonly proxy: Proxy
  readonly metrics: Metrics
  /** Of the first tunnel. */
  readonly port: number
  portOf(name: string): number
  /** Waits until the access log has so many lines. */
  logged(count: number): Promise<readonly Record<string, unknown>[]>
}

export async function runProxy(options: TestProxyOptions): Promise<TestProxy> {
  const log = lineCollector()
  const metrics = createMetrics()
  const { inbound = [], outbound = [], accessLog = 'all' } = options
  const proxy = await startProxy({
    ...options,
    inbound,
    outbound,
    metrics,
    log: silentLog,
    random: seededRandom(1),
    accessLog: { destination: log.destination, mode: accessLog },
  })
  return {
    proxy,
    metrics,
    port: proxy.tunnels[0]?.address.port ?? 0,
    portOf: (name) => proxy.tunnels.find((tunnel) => tunnel.name === name)?.address.port ?? 0,
    logged(count) {
      proxy.flush()
      return log.lines(count)
    },
    [Symbol.asyncDispose]: async () => void (await proxy.close(0)),
  }
}

/** Limits of the default, but for what a test is about. */
export function limitsWith(
  changes: {
    readonly [Part in keyof Limits]?: Partial<Limits[Part]>
  },
): Limits {
  return {
    request: { ...defaultLimits.request, ...changes.request },
    response: { ...defaultLimits.response, ...changes.response },
    connection: { ...defaultLimits.connection, ...changes.connection },
    time: { ...defaultLimits.time, ...changes.time },
  }
}

/** A TLS connection that presents `svid`. The test is about the server, so it is not verified here. */
export async function connectAs(
  svid: X509Svid | undefined,
  port: number,
  alpn: readonly string[] = [],
): Promise<TLSSocket> {
  const options = {
    ...secureContextOf(svid),
    host: '127.0.0.1',
    port,
    rejectUnauthorized: false,
    ...(alpn.length > 0 && { ALPNProtocols: [...alpn] }),
  }
  const socket = connect(options)
  socket.on('error', () => {})
  await once(socket, 'secureConnect')
  return socket
}

/** All that a socket sends until it ends, as text with one character per byte. */
export async function readAll(socket: Socket): Promise<string> {
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  await new Promise((resolve) => socket.once('end', resolve).once('close', resolve))
  return Buffer.concat(chunks).toString('latin1')
}

/** Reads until the text has come; keeps listening for later. */
export function textReader(socket: Socket) {
  let text = ''
  const waiting = new Set<() => void>()
  const wake = () => {
    for (const check of waiting) check()
  }
  let closed = false
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1')
    wake()
  })
  socket.once('close', () => {
    closed = true
    wake()
  })
  return {
    text: () => text,
    until: (wanted: string | RegExp): Promise<string> =>
      new Promise((resolve, reject) => {
        const check = () => {
          const found = typeof wanted === 'string' ? text.includes(wanted) : wanted.test(text)
          if (!found && !closed) return
          waiting.delete(check)
          if (found) resolve(text)
          else reject(new Error(`closed before ${String(wanted)}; got: ${text}`))
        }
        waiting.add(check)
        check()
      }),
  }
}

function testTrustDomainOf(svid: X509Svid): TestAuthority['trustDomain'] {
  return svid.id.slice('spiffe://'.length).split('/')[0] as TestAuthority['trustDomain']
}

function lineCollector() {
  const lines: Record<string, unknown>[] = []
  const waiting = new Set<() => void>()
  const destination = new Writable({
    write(chunk: Buffer, _encoding, done) {
      for (const line of chunk.toString().trimEnd().split('\n')) {
        lines.push(JSON.parse(line) as Record<string, unknown>)
      }
      for (const check of waiting) check()
      done()
    },
  })
  return {
    destination,
    lines: (count: number) =>
      new Promise<readonly Record<string, unknown>[]>((resolve) => {
        const check = () => {
          if (lines.length < count) return
          waiting.delete(check)
          resolve(lines)
        }
        waiting.add(check)
        check()
      }),
  }
}

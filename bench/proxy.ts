/**
 * The sidecar against nginx doing the same in the same run: mTLS in, plain to the same app, one worker, a line in
 * the access log for each request. `node dist/bench/proxy.js [rounds] [seconds]`
 *
 * Client, proxy and app share the cores of one machine, so the rate in wall time says as much about them as about
 * the proxy. What is compared is requests per second of CPU time that the proxy itself has used, all its threads
 * counted. Latency is of wall time.
 */
import { type ChildProcess, fork, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { buildSnapshot, parseDocuments } from '../policies/index.js'
import { toPem, type X509Svid } from '../spiffe/index.js'
import { testAuthority } from '../test/support/authority.js'
import { type TempFolder, tempFolder } from '../test/support/temp-folder.js'
import type { LoadOrder, LoadPhase, LoadResult } from './proxy-load.js'
import { cpuSecondsOf, freePort, type Nginx, startNginx, streamModule } from './proxy-nginx.js'
import type { RelayOrder } from './proxy-relay.js'
import type { SidecarOrder } from './proxy-sidecar.js'

const ROUNDS = Number(process.argv[2] ?? 5)
const RUN_MS = Number(process.argv[3] ?? 4) * 1000
const WARM_UP_MS = 1000

const POLICY = `
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: { name: orders, namespace: shop }
spec:
  target: { app: orders }
  rules:
    - name: checkout
      from: [{ app: checkout }]
      to: [{ methods: [GET], paths: ["/orders/{*}"] }, { tcp: true }]
`

interface Figure {
  readonly perCpuSecond: number
  readonly perSecond: number
  readonly p50: number
  readonly p99: number
  readonly errors: number
  /** Share of one core that the load process used. */
  readonly client: number
}

interface Target {
  readonly name: string
  readonly port: number
  readonly pid: number
}

type Shape = Pick<LoadOrder, 'protocol' | 'connections' | 'streams'>

const http1 = (connections: number): Shape => ({ protocol: 'http1', connections, streams: 1 })
const h2: Shape = { protocol: 'h2', connections: 8, streams: 8 }

async function main(): Promise<void> {
  if (spawnSync('nginx', ['-v']).error) {
    console.log('proxy: skipped, needs nginx (apt-get install nginx)')
    return
  }
  await using folder = await tempFolder()
  await using house = await startAll(folder)
  const { caller, nginx, sidecar, stream, direct } = house
  const compare = (title: string, shape: Shape, targets: readonly Target[]) =>
    measure({ title, shape, targets, caller })

  const few = await compare('HTTP/1.1, 4 connections', http1(4), [nginx, sidecar])
  const plain = await measure({
    title: 'the app alone, 4 connections',
    shape: http1(4),
    targets: [direct],
  })
  const many = await compare('HTTP/1.1, 64 connections', http1(64), [nginx, sidecar])
  const over2 = await compare('HTTP/2, 8 connections x 8 streams', h2, [nginx, sidecar])
  const added = (of: Target) => p50(few, of) - p50(plain, direct)
  console.log()
  ratio('PF-8  HTTP/1.1 at 64 connections / nginx', rate(many, sidecar) / rate(many, nginx), 0.35)
  ratio('PF-9  HTTP/2 / nginx', rate(over2, sidecar) / rate(over2, nginx), 0.3)
  // What Node itself can do bounds what the sidecar can.
  const relays = [...(stream ? [stream] : []), house.bare, house.relay]
  const l4 = await compare('TCP, 64 connections', http1(64), relays)
  ratio('      TCP relay / the same without all else', rate(l4, house.relay) / rate(l4, house.bare))
  if (stream) ratio('PF-10 TCP relay / nginx stream', rate(l4, house.relay) / rate(l4, stream), 0.8)
  else console.log('PF-10 skipped, needs libnginx-mod-stream (apt-get install libnginx-mod-stream)')
  const ours = added(sidecar)
  console.log(
    `PF-11 latency added at 4 connections, p50: ${ours.toFixed(0)} us / nginx ${added(nginx).toFixed(0)} us = ${(ours / added(nginx)).toFixed(2)} (at most 3)`,
  )
}

async function startAll(folder: TempFolder) {
  const authority = testAuthority('bench.test')
  const own = authority.issueX509({ id: '/ns/shop/sa/orders' })
  const caller = pemOf(authority.issueX509({ id: '/ns/shop/sa/checkout' }))
  const rootPem = toPem('CERTIFICATE', authority.root.certificate.der)
  await writeFile(folder.file('own.pem'), pemOf(own).cert)
  await writeFile(folder.file('own.key'), pemOf(own).key)
  await writeFile(folder.file('root.pem'), rootPem)

  const ports = { app: await freePort(), http: await freePort(), stream: await freePort() }
  const app = await startNginx({
    folder: folder.file('app'),
    blocks: appBlock(ports.app),
    ports: [ports.app],
  })
  const nginx = await startNginx({
    folder: folder.file('proxy'),
    blocks: httpBlock(folder, ports),
    ports: [ports.http],
  })
  const module = streamModule()
  const stream: Nginx | undefined =
    module === undefined
      ? undefined
      : await startNginx({
          folder: folder.file('stream'),
          main: `load_module ${module};`,
          blocks: streamBlock(folder, ports),
          ports: [ports.stream],
        })
  const { bytes } = buildSnapshot({
    trustDomain: authority.trustDomain,
    layout: 'kubernetes',
    target: own.id,
    documents: parseDocuments(POLICY, 'bench'),
    generation: 1,
  })
  const listen = { host: '127.0.0.1', port: 0 }
  const address = { host: '127.0.0.1', port: ports.app }
  const sidecar = await startProcess('./proxy-sidecar.js', {
    trustDomain: authority.trustDomain,
    chainPem: pemOf(own).cert,
    privateKeyDer: own.privateKey.export({ type: 'pkcs8', format: 'der' }).toString('base64'),
    rootPem,
    snapshot: Buffer.from(bytes).toString('base64'),
    inbound: [
      { name: 'orders', listen, app: address, protocol: 'http1' },
      { name: 'relay', listen, app: address, protocol: 'tcp' },
    ],
    accessLog: folder.file('sidecar.log'),
  })
  const bare = await startProcess('./proxy-relay.js', { ...pemOf(own), app: ports.app })
  return {
    caller,
    bare: { name: 'bare Node', port: bare.ports[0] ?? 0, pid: bare.pid },
    direct: { name: 'app', port: ports.app, pid: app.workerPid },
    nginx: { name: 'nginx', port: ports.http, pid: nginx.workerPid },
    stream: stream && { name: 'nginx stream', port: ports.stream, pid: stream.workerPid },
    sidecar: { name: 'sidecar', port: sidecar.ports[0] ?? 0, pid: sidecar.pid },
    relay: { name: 'sidecar', port: sidecar.ports[1] ?? 0, pid: sidecar.pid },
    async [Symbol.asyncDispose]() {
      await bare.stop()
      await sidecar.stop()
      await stream?.[Symbol.asyncDispose]()
      await nginx[Symbol.asyncDispose]()
      await app[Symbol.asyncDispose]()
    },
  }
}

const appBlock = (port: number) => `http {
  access_log off;
  keepalive_requests 100000000;
  server {
    listen 127.0.0.1:${port};
    location / { default_type text/plain; return 200 "hello from the app, a small body\\n"; }
  }
}`

const tls = (folder: TempFolder) => `
    ssl_certificate ${folder.file('own.pem')};
    ssl_certificate_key ${folder.file('own.key')};
    ssl_client_certificate ${folder.file('root.pem')};
    ssl_verify_client on;
    ssl_verify_depth 3;
    ssl_protocols TLSv1.3;
    ssl_session_tickets off;`

const httpBlock = (
  folder: TempFolder,
  ports: { readonly app: number; readonly http: number },
) => `http {
  keepalive_requests 100000000;
  log_format main '$time_iso8601 $ssl_client_s_dn $ssl_client_serial "$request" $status $body_bytes_sent $request_time $ssl_protocol';
  access_log ${folder.file('nginx.log')} main buffer=32k flush=1s;
  upstream app { server 127.0.0.1:${ports.app}; keepalive 128; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:${ports.http} ssl http2;${tls(folder)}
    http2_max_concurrent_streams 128;
    location / {
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header X-Forwarded-Client-Cert "Hash=$ssl_client_fingerprint";
      proxy_set_header X-Request-Id $request_id;
    }
  }
}`

const streamBlock = (
  folder: TempFolder,
  ports: { readonly app: number; readonly stream: number },
) => `stream {
  server {
    listen 127.0.0.1:${ports.stream} ssl;${tls(folder)}
    proxy_pass 127.0.0.1:${ports.app};
  }
}`

function pemOf({ chain, privateKey }: X509Svid) {
  return {
    cert: chain.map(({ der }) => toPem('CERTIFICATE', der)).join(''),
    key: String(privateKey.export({ type: 'pkcs8', format: 'pem' })),
  }
}

async function startProcess(program: string, order: SidecarOrder | RelayOrder) {
  const child = fork(new URL(program, import.meta.url), {
    // For a profile: BENCH_NODE_OPTIONS=--cpu-prof
    execArgv: (process.env['BENCH_NODE_OPTIONS'] ?? '').split(' ').filter(Boolean),
  })
  child.send(order)
  const [{ ports }] = (await once(child, 'message')) as [{ ports: number[] }]
  return {
    ports,
    pid: child.pid ?? 0,
    async stop() {
      const closed = once(child, 'exit')
      child.disconnect()
      await closed
    },
  }
}

type Rows = ReadonlyMap<Target, readonly Figure[]>

interface Measurement {
  readonly title: string
  readonly shape: Shape
  readonly targets: readonly Target[]
  readonly caller?: { readonly key: string; readonly cert: string }
}

/** All targets in turn, again and again, so that what disturbs the machine disturbs all alike. */
async function measure({ title, shape, targets, caller }: Measurement): Promise<Rows> {
  const rows = new Map<Target, Figure[]>(targets.map((target) => [target, []]))
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const target of targets) {
      const order = { ...shape, ...caller, port: target.port, path: '/orders/42' }
      const figure = await load({ ...order, warmUpMs: WARM_UP_MS, runMs: RUN_MS }, target.pid)
      rows.get(target)?.push(figure)
    }
  }
  console.log(`\n${title}`)
  for (const [{ name }, figures] of rows) console.log(lineOf(name, figures))
  return rows
}

function lineOf(name: string, figures: readonly Figure[]): string {
  const shown = (key: keyof Figure) => median(figures.map((figure) => figure[key])).toFixed(0)
  const client = median(figures.map(({ client }) => client))
  return [
    `  ${name.padEnd(14)} ${shown('perCpuSecond').padStart(7)} per CPU second`,
    `${shown('perSecond').padStart(7)}/s`,
    `p50 ${shown('p50')} us`,
    `p99 ${shown('p99')} us`,
    `errors ${shown('errors')}`,
    ...(client > 0.9 ? ['(the client was the bottleneck)'] : []),
  ].join('  ')
}

async function load(order: LoadOrder, pid: number): Promise<Figure> {
  const child: ChildProcess = fork(new URL('./proxy-load.js', import.meta.url))
  let before = Promise.resolve(0)
  let after = Promise.resolve(0)
  const result = await new Promise<LoadResult>((resolve, reject) => {
    child.once('exit', () => reject(new Error('the load process ended early')))
    child.on('message', (message: LoadPhase | LoadResult) => {
      if (!('measuring' in message)) resolve(message)
      else if (message.measuring) before = cpuSecondsOf(pid)
      else after = cpuSecondsOf(pid)
    })
    child.send(order)
  })
  child.disconnect()
  const { requests, seconds, cpuSeconds, p50, p99, errors } = result
  const used = (await after) - (await before)
  return {
    perCpuSecond: requests / used,
    perSecond: requests / seconds,
    client: cpuSeconds / seconds,
    p50,
    p99,
    errors,
  }
}

const rate = (rows: Rows, target: Target) =>
  median((rows.get(target) ?? []).map(({ perCpuSecond }) => perCpuSecond))

const p50 = (rows: Rows, target: Target) => median((rows.get(target) ?? []).map(({ p50 }) => p50))

function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

function ratio(title: string, value: number, floor?: number): void {
  const bar = floor === undefined ? '' : ` (at least ${floor})`
  console.log(`${title}: ${value.toFixed(2)}${bar}`)
}

await main()

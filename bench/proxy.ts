/**
 * The sidecar against nginx doing the same: mTLS in, plain HTTP to the same app, a line in the access log.
 * `node dist/bench/proxy.js [rounds] [seconds]`
 *
 * All processes share the machine's cores, so the figure that counts is requests per second of CPU time
 * that the proxy itself used; it does not depend on who waits for whom.
 */
import { type ChildProcess, fork, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { buildSnapshot, parseDocuments } from '../policies/index.js'
import { toPem } from '../spiffe/index.js'
import { testAuthority } from '../test/support/authority.js'
import { tempFolder } from '../test/support/temp-folder.js'
import type { LoadOrder, LoadResult } from './proxy-load.js'
import { cpuSecondsOf, freePort, startNginx } from './proxy-nginx.js'
import type { SidecarOrder } from './proxy-sidecar.js'

const ROUNDS = Number(process.argv[2] ?? 3)
const SECONDS = Number(process.argv[3] ?? 5)

interface Figure {
  readonly perCpuSecond: number
  readonly perSecond: number
  readonly p50: number
  readonly p99: number
  readonly errors: number
  readonly busy: number
}

async function main() {
  if (spawnSync('nginx', ['-v']).error) {
    console.log('proxy: skipped, needs nginx (apt-get install nginx)')
    return
  }
  await using dir = await tempFolder()
  const authority = testAuthority('bench.test')
  const own = authority.issueX509({ id: '/ns/shop/sa/orders' })
  const caller = authority.issueX509({ id: '/ns/shop/sa/checkout' })
  const pem = (svid: typeof own) => ({
    cert: svid.chain.map(({ der }) => toPem('CERTIFICATE', der)).join(''),
    key: String(svid.privateKey.export({ type: 'pkcs8', format: 'pem' })),
  })
  const rootPem = toPem('CERTIFICATE', authority.root.certificate.der)
  const ports = { app: await freePort(), direct: await freePort() }
  await writeFile(dir.file('own.pem'), pem(own).cert)
  await writeFile(dir.file('own.key'), pem(own).key)
  await writeFile(dir.file('root.pem'), rootPem)
  await using app = await startNginx({
    folder: dir.file('app'),
    servers: `http { access_log off; keepalive_requests 100000000; server { listen 127.0.0.1:${ports.app}; location / { default_type text/plain; return 200 "hello from the app, a small body\\n"; } } }`,
    ports: [ports.app],
  })
  await using nginx = await startNginx({
    folder: dir.file('proxy'),
    servers: `http {
      keepalive_requests 100000000;
      log_format main '$time_iso8601 $ssl_client_s_dn "$request" $status $bytes_sent $request_time $ssl_protocol';
      access_log ${dir.file('nginx.log')} main buffer=32k flush=1s;
      upstream app { server 127.0.0.1:${ports.app}; keepalive 128; keepalive_requests 100000000; }
      server {
        listen 127.0.0.1:${ports.direct} ssl http2;
        ssl_certificate ${dir.file('own.pem')}; ssl_certificate_key ${dir.file('own.key')};
        ssl_client_certificate ${dir.file('root.pem')}; ssl_verify_client on; ssl_verify_depth 3;
        ssl_protocols TLSv1.3; ssl_session_tickets off;
        location / {
          proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
          proxy_set_header X-Forwarded-Client-Cert "Hash=$ssl_client_fingerprint";
          proxy_set_header X-Request-Id $request_id;
        }
      }
    }`,
    ports: [ports.direct],
  })
  const text = `
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
  const { bytes } = buildSnapshot({
    trustDomain: authority.trustDomain,
    layout: 'kubernetes',
    target: own.id,
    documents: parseDocuments(text, 'bench'),
    generation: 1,
  })
  const sidecar = fork(new URL('./proxy-sidecar.js', import.meta.url), {
    execArgv: (process.env.BENCH_NODE_OPTIONS ?? '').split(' ').filter(Boolean),
  })
  sidecar.send({
    trustDomain: authority.trustDomain,
    chainPem: pem(own).cert,
    privateKeyDer: own.privateKey.export({ type: 'pkcs8', format: 'der' }).toString('base64'),
    rootPem,
    snapshot: Buffer.from(bytes).toString('base64'),
    inbound: [
      {
        name: 'orders',
        listen: { host: '127.0.0.1', port: 0 },
        app: { host: '127.0.0.1', port: ports.app },
        protocol: 'http1',
      },
      {
        name: 'relay',
        listen: { host: '127.0.0.1', port: 0 },
        app: { host: '127.0.0.1', port: ports.app },
        protocol: 'tcp',
      },
    ],
    accessLog: dir.file('sidecar.log'),
  } satisfies SidecarOrder)
  const [{ ports: sidecarPorts }] = (await once(sidecar, 'message')) as [{ ports: number[] }]
  const request =
    'GET /orders/42 HTTP/1.1\r\nHost: orders\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n'
  const base = { ...pem(caller), request, warmUpMs: 1500, runMs: SECONDS * 1000 }
  for (const connections of [4, 64]) {
    const rows: Record<string, Figure[]> = { nginx: [], sidecar: [], relay: [] }
    for (let round = 0; round < ROUNDS; round += 1) {
      rows.nginx!.push(await load({ ...base, port: ports.direct, connections }, nginx.workerPid))
      rows.sidecar!.push(await load({ ...base, port: sidecarPorts[0]!, connections }, sidecar.pid!))
      rows.relay!.push(
        await load({ ...base, port: sidecarPorts[1]!, connections }, sidecar.pid!),
      )
    }
    for (const [name, figures] of Object.entries(rows)) {
      const m = (key: keyof Figure) =>
        figures.map((figure) => figure[key]).sort((a, b) => a - b)[Math.floor(figures.length / 2)]!
      console.log(
        `${connections} ${name}: ${m('perCpuSecond').toFixed(0)} per CPU s, ${m('perSecond').toFixed(0)}/s p50 ${m('p50').toFixed(0)} p99 ${m('p99').toFixed(0)} us, busy ${m('busy').toFixed(2)} errors ${m('errors')}`,
      )
    }
    const r = (key: keyof Figure) => {
      const m = (figures: Figure[]) =>
        figures.map((figure) => figure[key]).sort((a, b) => a - b)[Math.floor(figures.length / 2)]!
      return m(rows.sidecar!) / m(rows.nginx!)
    }
    console.log(
      `  ratio per CPU second ${r('perCpuSecond').toFixed(2)}, p50 ${r('p50').toFixed(2)}`,
    )
  }
  sidecar.disconnect()
  await once(sidecar, 'close')
  void app
}

async function load(order: LoadOrder, pid: number): Promise<Figure> {
  const child: ChildProcess = fork(new URL('./proxy-load.js', import.meta.url))
  let before = Promise.resolve(0)
  let after = Promise.resolve(0)
  const result = await new Promise<LoadResult>((resolve, reject) => {
    child.once('exit', () => reject(new Error('load process ended early')))
    child.on('message', (message: { measure: boolean } | LoadResult) => {
      if (!('measure' in message)) resolve(message)
      else if (message.measure) before = cpuSecondsOf(pid)
      else after = cpuSecondsOf(pid)
    })
    child.send(order)
  })
  child.disconnect()
  const used = (await after) - (await before)
  return {
    perCpuSecond: result.requests / used,
    perSecond: result.requests / result.seconds,
    p50: result.p50,
    p99: result.p99,
    errors: result.errors,
    busy: used / result.seconds,
  }
}

await main()

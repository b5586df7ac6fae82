import { execFile, spawn } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { listenOn } from '../../platform/listen.js'
import { countersign, startProgram } from '../support/countersign.js'
import { type RunningDemo, startDemo } from '../support/demo.js'
import { type TempFolder, tempFolder } from '../support/temp-folder.js'
import { missing, nginx, openssl } from '../support/tools.js'

const run = promisify(execFile)
const MINUTE = 60_000

/** The files that `countersign api fetch x509 --write` leaves in a folder. */
async function writeSvid(demo: RunningDemo, app: 'orders' | 'shop', folder: TempFolder) {
  const { code, stderr } = await countersign([
    'api',
    'fetch',
    'x509',
    '--socket',
    demo.endpoints[app],
    '--write',
    folder.path,
  ])
  expect(stderr).not.toContain('error')
  expect(code).toBe(0)
  return {
    chain: folder.file('svid.0.pem'),
    key: folder.file('svid.0.key'),
    bundle: folder.file('bundle.example.test.pem'),
  }
}

describe.skipIf(missing('OpenSSL as a judge', openssl))('openssl verify -x509_strict', () => {
  test(
    'accepts the chain of an SVID under the root in its bundle (X509-33)',
    async () => {
      await using demo = await startDemo()
      await using folder = await tempFolder()
      const { chain, bundle } = await writeSvid(demo, 'shop', folder)
      const { stdout } = await run('openssl', [
        'verify',
        '-x509_strict',
        '-purpose',
        'sslclient',
        '-CAfile',
        bundle,
        '-untrusted',
        chain,
        chain,
      ])
      expect(stdout).toContain(': OK')
    },
    MINUTE,
  )
})

describe.skipIf(missing('nginx as a peer', nginx, openssl))(
  'nginx that terminates mTLS with an SVID',
  () => {
    test(
      'is called through our sidecar, and verifies the SVID that it presents',
      async () => {
        await using demo = await startDemo()
        await using folder = await tempFolder()
        const files = await writeSvid(demo, 'orders', folder)
        const port = await freePort()
        await using server = await startNginx({ folder, files, port })
        const route = {
          listen: '127.0.0.1:0',
          routes: [{ address: `127.0.0.1:${port}`, expect: [demo.ids.orders] }],
        }
        await using sidecar = await startProgram([
          'sidecar',
          'run',
          '--workload-api',
          demo.endpoints.shop,
          '--admin-listen',
          '127.0.0.1:0',
          '--outbound',
          JSON.stringify(route),
        ])

        const answer = await fetch(`http://${sidecar.addresses.outbound}/`)
        expect([answer.status, await answer.text()]).toEqual([200, 'SUCCESS'])
        expect(server.running()).toBe(true)
      },
      MINUTE,
    )
  },
)

/** nginx cannot be told to choose a port, so one is chosen for it. */
async function freePort(): Promise<number> {
  const server = createServer()
  const { port } = await listenOn(server, { host: '127.0.0.1', port: 0 })
  await new Promise((resolve) => server.close(resolve))
  return port
}

interface NginxOptions {
  readonly folder: TempFolder
  readonly files: { readonly chain: string; readonly key: string; readonly bundle: string }
  readonly port: number
}

async function startNginx({ folder, files, port }: NginxOptions) {
  const config = folder.file('nginx.conf')
  await writeFile(
    config,
    `daemon off; master_process off; pid ${folder.file('nginx.pid')}; error_log ${folder.file('error.log')} notice;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path ${folder.file('t1')}; proxy_temp_path ${folder.file('t2')};
  fastcgi_temp_path ${folder.file('t3')}; uwsgi_temp_path ${folder.file('t4')}; scgi_temp_path ${folder.file('t5')};
  server {
    listen 127.0.0.1:${port} ssl;
    ssl_protocols TLSv1.3;
    ssl_certificate ${files.chain}; ssl_certificate_key ${files.key};
    ssl_client_certificate ${files.bundle}; ssl_verify_client on; ssl_verify_depth 3;
    location / { return 200 $ssl_client_verify; }
  }
}
`,
  )
  const child = spawn('nginx', ['-c', config, '-e', folder.file('error.log')], { stdio: 'inherit' })
  const gone = new Promise((resolve) => child.once('exit', resolve))
  await accepting(port, () => child.exitCode !== null, folder.file('error.log'))
  return {
    running: () => child.exitCode === null,
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM')
      await gone
    },
  }
}

async function accepting(port: number, ended: () => boolean, log: string): Promise<void> {
  for (;;) {
    if (ended()) throw new Error(`nginx ended: ${await readFile(log, 'utf8')}`)
    const { connect } = await import('node:net')
    const socket = connect(port, '127.0.0.1')
    const open = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true))
      socket.once('error', () => resolve(false))
    })
    socket.destroy()
    if (open) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

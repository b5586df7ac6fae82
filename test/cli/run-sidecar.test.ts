import { openSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { describe, expect, test } from 'vitest'
import { fakeIdentities } from '../support/fake-identities.js'
import { testEndpoint } from '../support/local-endpoint.js'
import { rawApp } from '../support/raw-app.js'
import { type CliRun, cliRun } from '../support/run-cli.js'
import { connectAs } from '../support/running-proxy.js'
import { ORDERS_PATH, signedSnapshot } from '../support/signed-snapshot.js'
import { tempFolder } from '../support/temp-folder.js'
import { until } from '../support/until.js'

const me = [`unix:uid:${process.getuid?.() ?? 0}`]
const billing = 'spiffe://prod.example/ns/shop/sa/billing'

/** An agent with an identity for orders, and a way to run its sidecar in this process. */
async function stage() {
  const identities = fakeIdentities({ entries: [{ path: ORDERS_PATH, selectors: me }] })
  const { authority } = identities
  const endpoint = await testEndpoint({ identities })
  const folder = await tempFolder()
  // Never answers, so that what is under way stays so.
  const app = await rawApp(() => undefined)
  const stop = new AbortController()
  const ready = folder.file('ready')
  const runs: Promise<CliRun>[] = []
  const run = (...args: readonly string[]) => {
    const fd = openSync(ready, 'w')
    const socket = `unix://${endpoint.path}`
    const running = cliRun(
      ['sidecar', 'run', '--workload-api', socket, '--log-level', 'error', ...args],
      { signal: stop.signal, environment: { COUNTERSIGN_READY_FD: String(fd) } },
    )
    runs.push(running)
    return running
  }
  const text = () => readFileSync(ready, 'utf8')
  return {
    app,
    run,
    stop: () => stop.abort('SIGTERM'),
    checkout: authority.issueX509({ id: '/ns/shop/sa/checkout' }),
    inbound: ['--inbound', `listen=127.0.0.1:0,app=127.0.0.1:${app.port}`],
    outbound: [
      '--outbound',
      JSON.stringify({
        listen: '127.0.0.1:0',
        routes: [{ address: '127.0.0.1:9', expect: [billing] }],
      }),
    ],
    givePolicy: () => identities.setSnapshot(signedSnapshot({ authority })),
    async addresses(): Promise<Readonly<Record<string, string>>> {
      await until(() => text().endsWith('\n'))
      return JSON.parse(text()) as Record<string, string>
    },
    async [Symbol.asyncDispose]() {
      stop.abort('SIGTERM')
      await Promise.all(runs)
      await app[Symbol.asyncDispose]()
      await endpoint[Symbol.asyncDispose]()
      await folder[Symbol.asyncDispose]()
    },
  }
}

const anyAdmin = ['--admin-listen', '127.0.0.1:0']
const readyz = (admin: string | undefined) => fetch(`http://${admin}/readyz`)

describe('countersign sidecar run', () => {
  test('tells where it serves, is ready, and ends with 0 when it is asked to', async () => {
    await using here = await stage()
    here.givePolicy()
    const running = here.run(...anyAdmin, ...here.inbound)
    const { admin, inbound } = await here.addresses()
    expect(inbound).toMatch(/^127\.0\.0\.1:\d+$/)
    expect((await readyz(admin)).status).toBe(200)
    const status = await (await fetch(`http://${admin}/status`)).json()
    expect(status).toMatchObject({ policy: { generation: 1 }, policy_connected: true })
    here.stop()
    expect(await running).toMatchObject({ exit: 0, stderr: '' })
  })

  test('needs no policy when it only takes calls of its app', async () => {
    await using here = await stage()
    const running = here.run(...anyAdmin, ...here.outbound)
    const { admin, outbound, inbound } = await here.addresses()
    expect(outbound).toMatch(/^127\.0\.0\.1:\d+$/)
    expect(inbound).toBeUndefined()
    expect((await readyz(admin)).status).toBe(200)
    here.stop()
    expect(await running).toMatchObject({ exit: 0 })
  })

  test('ends with 1 when a request was still open at the end of its time (RD-3)', async () => {
    await using here = await stage()
    here.givePolicy()
    const running = here.run(...anyAdmin, ...here.inbound, '--drain', '3s')
    const { admin, inbound } = await here.addresses()
    const caller = await connectAs(here.checkout, Number(inbound?.split(':')[1]))
    caller.write('GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n')
    await until(() => here.app.received().includes('GET /orders/1'))
    here.stop()
    const draining = await readyz(admin)
    expect(draining.status).toBe(503)
    expect(await draining.json()).toMatchObject({ reasons: ['stopping: takes nothing new'] })
    const { exit, stderr } = await running
    expect(exit).toBe(1)
    expect(stderr).toContain('CS_DRAIN_INCOMPLETE')
    caller.destroy()
  })

  test('is alive and not ready while it waits, and can be stopped then (RD-7)', async () => {
    await using here = await stage()
    const admin = `127.0.0.1:${await freePort()}`
    const running = here.run('--admin-listen', admin, ...here.inbound)
    await waitForListener(admin)
    const answer = await readyz(admin)
    expect(answer.status).toBe(503)
    expect(await answer.json()).toEqual({
      ready: false,
      reasons: ['starting: waits for the first SVID and policy'],
    })
    expect((await fetch(`http://${admin}/livez`)).status).toBe(200)
    const status = await (await fetch(`http://${admin}/status`)).json()
    expect(status).toMatchObject({ identity: null, policy: null, tunnels: [] })
    here.stop()
    expect(await running).toMatchObject({ exit: 0 })
  })

  test('gives up when nothing comes in time', async () => {
    await using here = await stage()
    const running = here.run(...anyAdmin, ...here.inbound, '--ready-timeout', '1s')
    const { exit, stderr } = await running
    expect(exit).not.toBe(0)
    expect(stderr).toContain('CS_SIDECAR_NOT_READY')
    expect(stderr).toContain('public.sock')
  })

  test.each<[string, readonly string[], string]>([
    ['without a listener', [], 'CS_TUNNEL_INVALID'],
    ['with an app elsewhere', ['--inbound', 'listen=:0,app=10.0.0.1:80'], 'CS_CONFIG_INVALID'],
    ['with no app', ['--inbound', 'listen=127.0.0.1:0'], 'CS_CONFIG_INVALID'],
  ])('is refused %s', async (_, args, code) => {
    await using here = await stage()
    const { exit, stderr } = await here.run(...anyAdmin, ...args)
    expect(exit).not.toBe(0)
    expect(stderr).toContain(code)
  })
})

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const bound = server.address()
  await new Promise((resolve) => server.close(resolve))
  return bound && typeof bound === 'object' ? bound.port : 0
}

async function waitForListener(address: string): Promise<void> {
  const answers = async () => {
    try {
      await fetch(`http://${address}/livez`)
      return true
    } catch {
      return false
    }
  }
  while (!(await answers())) await new Promise((resolve) => setImmediate(resolve))
}

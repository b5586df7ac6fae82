import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startProgram } from '../support/countersign.js'
import { type RunningDemo, startDemo } from '../support/demo.js'
import { type TempFolder, tempFolder } from '../support/temp-folder.js'
import { go, missing } from '../support/tools.js'

const run = promisify(execFile)
const MINUTE = 60_000

describe.skipIf(missing('go-spiffe as a peer', go))('a workload written with go-spiffe', () => {
  let demo: RunningDemo
  let folder: TempFolder
  let binary: string

  beforeAll(async () => {
    folder = await tempFolder()
    binary = folder.file('interop')
    await run('go', ['build', '-o', binary, '.'], { cwd: join(import.meta.dirname, 'go') })
    demo = await startDemo(['--svid-ttl', '20s'])
  }, 10 * MINUTE)

  afterAll(async () => {
    await demo?.[Symbol.asyncDispose]()
    await folder?.[Symbol.asyncDispose]()
  })

  const ask = async (...args: readonly string[]) => {
    const { stdout } = await run(binary, args)
    return JSON.parse(stdout) as Record<string, unknown>
  }

  test('fetches its X509-SVID, which it verifies against the bundle it fetches (WE-3, WL-1)', async () => {
    expect(await ask('x509', '-socket', demo.endpoints.shop)).toMatchObject({
      svids: [{ id: demo.ids.shop, verified: demo.ids.shop, chain: 2 }],
      bundles: { 'example.test': 1 },
    })
  })

  test('fetches a JWT-SVID, which it and our endpoint validate alike (WL-59, JWT-14)', async () => {
    expect(await ask('jwt', '-socket', demo.endpoints.shop, '-audience', 'orders')).toMatchObject({
      id: demo.ids.shop,
      local: demo.ids.shop,
      remote: demo.ids.shop,
      refused: true,
    })
  })

  test(
    'sees its SVID rotate on one open stream (WL-12)',
    async () => {
      const { stdout } = await run(binary, [
        'watch',
        '-socket',
        demo.endpoints.orders,
        '-updates',
        '3',
      ])
      const updates = stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { id: string; serial: string })
      expect(updates.map(({ id }) => id)).toEqual([
        demo.ids.orders,
        demo.ids.orders,
        demo.ids.orders,
      ])
      expect(new Set(updates.map(({ serial }) => serial)).size).toBe(3)
    },
    2 * MINUTE,
  )

  test.each([
    ['GET', 200],
    ['DELETE', 403],
  ])('calls an app behind our sidecar: %s is answered with %i', async (method, status) => {
    const url = `https://${demo.addressesOf('orders-sidecar').inbound}/orders/42`
    const answer = await ask(
      'call',
      '-socket',
      demo.endpoints.shop,
      '-expect',
      demo.ids.orders,
      '-url',
      url,
      '-method',
      method,
    )
    expect(answer).toMatchObject({ status })
  })

  test('refuses our sidecar when it expects another identity', async () => {
    const url = `https://${demo.addressesOf('orders-sidecar').inbound}/orders/42`
    const calling = run(binary, [
      'call',
      '-socket',
      demo.endpoints.shop,
      '-expect',
      demo.ids.shop,
      '-url',
      url,
    ])
    await expect(calling).rejects.toMatchObject({
      stdout: expect.stringContaining('unexpected ID'),
    })
  })

  test(
    'is called through our sidecar, and sees the identity of the caller',
    async () => {
      const server = spawn(
        binary,
        ['serve', '-socket', demo.endpoints.orders, '-expect', demo.ids.shop],
        {
          stdio: ['ignore', 'pipe', 'inherit'],
        },
      )
      try {
        const [line] = (await once(createInterface({ input: server.stdout }), 'line')) as [string]
        const { listening } = JSON.parse(line) as { listening: string }
        const route = {
          listen: '127.0.0.1:0',
          routes: [{ address: listening, expect: [demo.ids.orders] }],
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
        const answer = await fetch(`http://${sidecar.addresses.outbound}/a/b`, { method: 'PUT' })
        expect(await answer.json()).toEqual({ caller: demo.ids.shop, path: '/a/b', method: 'PUT' })
      } finally {
        server.kill('SIGTERM')
      }
    },
    MINUTE,
  )
})

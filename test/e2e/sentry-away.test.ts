import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { describe, expect, test } from 'vitest'
import { formatHostPort, listenOn } from '../../platform/listen.js'
import { askJson, createEntry, startAgent, startSentry, startSidecar } from '../support/product.js'
import { tempFolder } from '../support/temp-folder.js'

const MINUTE = 60_000
const SVID_TTL = '60s'
const HALF_A_LIFE_MS = 30_000

const policy = `apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: { name: orders, namespace: shop }
spec:
  target: { app: orders }
  rules: [{ name: shop, from: [{ app: shop }], to: [{ methods: [GET], paths: ["/{**}"] }] }]
`

describe('while the sentry is away', () => {
  test(
    'workloads are served, calls go on, and renewal resumes when it is back',
    async () => {
      await using folder = await tempFolder()
      await using app = await startApp()
      await using sentry = await startSentry({ folder })
      await using agent = await startAgent({ folder, sentry, sockets: ['orders', 'shop'] })
      const idOf = (name: string) => `spiffe://example.test/ns/shop/sa/${name}`
      for (const name of ['orders', 'shop']) {
        await createEntry(sentry, {
          id: idOf(name),
          parent: agent.id,
          selectors: [`socket:${name}`],
          ttl: SVID_TTL,
        })
      }
      await writeFile(folder.file('policy.yaml'), policy)
      await sentry.ask('policy', 'apply', '-f', folder.file('policy.yaml'))
      await using orders = await startSidecar({
        endpoint: agent.endpointOf('orders'),
        inbound: { app: app.address },
      })
      await using shop = await startSidecar({
        endpoint: agent.endpointOf('shop'),
        outbound: { routes: [{ address: orders.addresses.inbound, expect: [idOf('orders')] }] },
      })
      const call = async () => (await fetch(`http://${shop.addresses.outbound}/x`)).status
      const serial = async () => {
        const { svids } = await askJson([
          'api',
          'fetch',
          'x509',
          '--socket',
          agent.endpointOf('shop'),
          '-o',
          'json',
        ])
        return (svids as { serial_number: string }[])[0]?.serial_number
      }
      expect(await call()).toBe(200)

      const before = await serial()
      await sentry.program.kill('SIGKILL')
      const end = performance.now() + HALF_A_LIFE_MS
      const statuses = new Set<number>()
      while (performance.now() < end) statuses.add(await call())
      expect([...statuses]).toEqual([200])
      expect(await serial()).toBeDefined()

      await using back = await startSentry({ folder, address: sentry.address })
      expect(back.address).toBe(sentry.address)
      while ((await serial()) === before) expect(await call()).toBe(200)
      expect(await call()).toBe(200)
    },
    3 * MINUTE,
  )
})

async function startApp(): Promise<AsyncDisposable & { readonly address: string }> {
  const server = createServer((request, response) => {
    request.resume()
    response.end('ok')
  })
  const address = formatHostPort(await listenOn(server, { host: '127.0.0.1', port: 0 }))
  return {
    address,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

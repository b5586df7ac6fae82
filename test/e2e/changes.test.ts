import { writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { countersign, type RunningProgram, startProgram } from '../support/countersign.js'
import { type RunningDemo, startDemo } from '../support/demo.js'
import { askJson } from '../support/product.js'
import { type TempFolder, tempFolder } from '../support/temp-folder.js'

const MINUTE = 60_000

const policy = (rule: string) => `apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: { name: orders, namespace: shop }
spec: { target: { app: orders }, rules: [${rule}] }
`

describe('a change reaches those it concerns, without a restart', () => {
  let demo: RunningDemo
  let folder: TempFolder
  beforeAll(async () => {
    folder = await tempFolder()
    demo = await startDemo(['--svid-ttl', '10m'])
  }, MINUTE)
  afterAll(async () => {
    await demo?.[Symbol.asyncDispose]()
    await folder?.[Symbol.asyncDispose]()
  })

  const sentry = () => ['--sentry-socket', demo.sentrySocket]
  const status = async (method: string) => {
    const answer = await fetch(`http://${demo.shop}/orders/42`, { method })
    await answer.arrayBuffer()
    return answer.status
  }
  const apply = async (text: string, ...args: readonly string[]) => {
    await writeFile(folder.file('p.yaml'), text)
    return countersign(['policy', 'apply', '-f', folder.file('p.yaml'), ...sentry(), ...args])
  }

  test(
    'a policy that would break a stored PolicyTest is refused, and nothing changes',
    async () => {
      const { code, stderr } = await apply(
        policy('{ name: no, action: deny, from: [{ app: shop }] }'),
      )
      expect(stderr).toContain('CS_POLICY_TEST_FAILED')
      expect(code).not.toBe(0)
      expect(await status('GET')).toBe(200)
    },
    MINUTE,
  )

  test(
    'policy apply --wait returns when the policy is live in every sidecar',
    async () => {
      expect(await status('DELETE')).toBe(403)
      const removed = await countersign([
        'policy',
        'delete',
        'shop/orders',
        '--kind',
        'PolicyTest',
        '--yes',
        ...sentry(),
      ])
      expect(removed.stderr).not.toContain('error')
      const wider = await apply(policy('{ name: all, from: [{ app: shop }] }'), '--wait')
      expect(wider.stderr).not.toContain('error')
      expect(wider.code).toBe(0)
      expect(await status('DELETE')).toBe(200)
      const narrower = await apply(
        policy('{ name: reads, from: [{ app: shop }], to: [{ methods: [GET] }] }'),
        '--wait',
      )
      expect(narrower.code).toBe(0)
      expect([await status('GET'), await status('DELETE')]).toEqual([200, 403])
    },
    MINUTE,
  )

  test(
    'policy explain gives the verdict of the sidecar, for an allowed call and for a refused one',
    async () => {
      const explain = (method: string) =>
        countersign([
          'policy',
          'explain',
          ...sentry(),
          '--from',
          demo.ids.shop,
          '--to',
          demo.ids.orders,
          '--method',
          method,
          '--path',
          '/orders/42',
        ])
      expect((await explain('GET')).stdout).toMatch(/allow[\s\S]*orders\/reads/)
      expect((await explain('DELETE')).stdout).toMatch(/no-rule/)
    },
    MINUTE,
  )

  test(
    'a new entry is an SVID in the hands of a workload that waits for it',
    async () => {
      const waiting = await startWatch(demo)
      const { agents } = await askJson(['agent', 'list', ...sentry(), '-o', 'json'])
      const parent = (agents as { id: string }[])[0]?.id ?? ''
      const created = await askJson([
        'entry',
        'create',
        '--spiffe-id',
        'spiffe://example.test/extra',
        '--parent-id',
        parent,
        '--selector',
        `unix:uid:${process.getuid?.()}`,
        ...sentry(),
        '-o',
        'json',
      ])
      expect(
        await waiting.waitForLine((line) => line.includes('spiffe://example.test/extra')),
      ).toBeDefined()
      await askJson(['entry', 'delete', String(created.id), ...sentry(), '-o', 'json'])
      const refused = await countersign([
        'api',
        'fetch',
        'x509',
        '--socket',
        `unix://${demo.agentSocket}`,
      ])
      expect(refused.stderr).toContain('CS_NO_IDENTITY')
      expect(refused.code).toBe(5)
      await waiting.kill('SIGTERM')
    },
    MINUTE,
  )

  test(
    'a banned agent gets nothing more, and its workloads neither',
    async () => {
      const { agents } = await askJson(['agent', 'list', ...sentry(), '-o', 'json'])
      await askJson([
        'agent',
        'ban',
        (agents as { id: string }[])[0]?.id ?? '',
        ...sentry(),
        '-o',
        'json',
      ])
      for (;;) {
        const { code } = await countersign([
          'api',
          'fetch',
          'x509',
          '--socket',
          demo.endpoints.shop,
        ])
        if (code !== 0) break
      }
    },
    MINUTE,
  )
})

/** `api watch` says nothing when it is ready, so it is started like a command and read as it prints. */
function startWatch(demo: RunningDemo): Promise<RunningProgram> {
  return startProgram(['api', 'watch', '--socket', `unix://${demo.agentSocket}`, '-o', 'json'], {
    ready: 'at once',
  })
}

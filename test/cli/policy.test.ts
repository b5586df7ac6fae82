import { mkdir, writeFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { policyCompiler } from '../../cli/policy-compiler.js'
import { parseSpiffeId, parseTrustDomain } from '../../spiffe/index.js'
import { policy } from '../policies/mesh.js'
import { type FakePolicyAdmin, fakePolicyAdmin } from '../support/fake-policy-admin.js'
import { type CliRunOptions, cliRun } from '../support/run-cli.js'
import { tempFolder } from '../support/temp-folder.js'

const NOW = Date.now()
const orders = parseSpiffeId('spiffe://example.test/ns/shop/sa/orders')
const checkout = parseSpiffeId('spiffe://example.test/ns/shop/sa/checkout')

const reads = policy([
  '{ name: reads, from: [ { app: checkout } ], to: [ { methods: [GET], paths: ["/orders/{*}"] } ] }',
])
const expectation = `---
apiVersion: countersign.dev/v1
kind: PolicyTest
metadata: { name: orders, namespace: shop }
spec:
  cases:
    - { from: ${checkout}, to: { app: orders, method: GET, path: /orders/42 }, expect: allow, rule: orders/reads }
`

interface World extends AsyncDisposable {
  readonly admin: FakePolicyAdmin
  /** A file with a text, by its path. */
  file(name: string, text: string): Promise<string>
  /** Runs `countersign policy …` against the sentry of this world. */
  run(args: readonly string[], options?: CliRunOptions): ReturnType<typeof cliRun>
}

async function world(): Promise<World> {
  const folder = await tempFolder()
  const socket = folder.file('s.sock')
  const compiler = policyCompiler({
    trustDomain: parseTrustDomain('example.test'),
    layout: 'kubernetes',
    now: () => NOW,
  })
  const admin = await fakePolicyAdmin({ socket, compiler, targets: [orders, checkout], now: NOW })
  return {
    admin,
    async file(name, text) {
      await mkdir(folder.file('d'), { recursive: true })
      await writeFile(folder.file(name), text)
      return folder.file(name)
    },
    run: ([verb = '', ...args], options) =>
      cliRun(['policy', verb, '--sentry-socket', socket, ...args], {
        now: () => new Date(NOW),
        ...options,
      }),
    async [Symbol.asyncDispose]() {
      await admin[Symbol.asyncDispose]()
      await folder[Symbol.asyncDispose]()
    },
  }
}

describe('policy apply', () => {
  test('stores documents and says what changed', async () => {
    await using w = await world()
    const path = await w.file('p.yaml', reads + expectation)
    const first = await w.run(['apply', '-f', path])
    expect(first).toMatchObject({ exit: 0, stderr: '' })
    expect(first.stdout).toMatch(/created +AccessPolicy +shop\/orders +revision 1/)
    expect(first.stdout).toMatch(/created +PolicyTest +shop\/orders +revision 1/)
    expect(first.stdout).toContain('1 app got a new snapshot')
    expect(first.stdout).toContain(orders)
    expect(w.admin.documents()).toHaveLength(2)

    const again = await w.run(['apply', '-f', path, '-o', 'json'])
    expect(JSON.parse(again.stdout)).toMatchObject({
      schema: 'countersign/policies-applied/v1',
      dry_run: false,
      documents: [
        {
          kind: 'AccessPolicy',
          namespace: 'shop',
          name: 'orders',
          change: 'unchanged',
          revision: '1',
        },
        { kind: 'PolicyTest', change: 'unchanged' },
      ],
      changed_targets: [],
    })
  })

  test('reads folders and standard input', async () => {
    await using w = await world()
    await w.file('d/a.yaml', reads)
    const folder = (await w.file('d/b.txt', 'not: a policy')).replace(/\/b\.txt$/, '')
    await w.file('d/c.json', JSON.stringify(parse(expectation)))
    expect(await w.run(['apply', '-f', folder])).toMatchObject({ exit: 0 })
    expect(w.admin.documents()).toHaveLength(2)
    const piped = await w.run(['apply', '-f', '-'], {
      stdin: reads.replace('name: reads', 'name: r'),
    })
    expect(piped.stderr).toContain('CS_POLICY_TEST_FAILED')
    expect(piped.exit).toBe(1)
    expect(await w.run(['apply', '-f', '-'], { stdin: reads })).toMatchObject({ exit: 0 })
  })

  test('with --dry-run stores nothing', async () => {
    await using w = await world()
    const done = await w.run(['apply', '--dry-run', '-f', '-'], { stdin: reads })
    expect(done).toMatchObject({ exit: 0 })
    expect(done.stdout).toContain('would be created')
    expect(w.admin.documents()).toEqual([])
  })

  test('shows a mistake with its line before anything is sent', async () => {
    await using w = await world()
    const path = await w.file('p.yaml', reads.replace('from:', 'form:'))
    const { exit, stderr } = await w.run(['apply', '-f', path])
    expect(exit).toBe(1)
    expect(stderr).toContain(
      `${path}:9:22: spec.rules[0].form: unknown field; did you mean "from"?`,
    )
    expect(stderr).toContain('CS_POLICY_INVALID')
    expect(w.admin.documents()).toEqual([])
  })

  test.each([
    [
      'a file that is not there',
      ['-f', '/nowhere/p.yaml'],
      '/nowhere/p.yaml cannot be read (ENOENT)',
    ],
    ['nothing', ['-f', '-'], 'there is no document in -'],
    ['a time that is none', ['-f', '-', '--timeout', 'soon'], '--timeout takes a duration'],
    ['no file', [], "required option '-f, --file <path>' not specified"],
  ])('refuses %s', async (_, args, message) => {
    await using w = await world()
    const { exit, stderr } = await w.run(['apply', ...args])
    expect(exit).toBe(2)
    expect(stderr).toContain(message)
  })

  test('refuses one document in two files', async () => {
    await using w = await world()
    const [one, other] = [await w.file('a.yaml', reads), await w.file('b.yaml', reads)]
    const { exit, stderr } = await w.run(['apply', '-f', one, '-f', other])
    expect(exit).toBe(2)
    expect(stderr).toContain(`AccessPolicy shop/orders is both in ${one} and in ${other}`)
  })

  test('with --wait ends when every connected proxy enforces it', async () => {
    await using w = await world()
    w.admin.report({ target: orders })
    w.admin.report({ target: checkout, snapshotId: 'old', state: 'stale', connected: false })
    const running = w.run(['apply', '--wait', '-f', '-'], { stdin: reads })
    await w.admin.watched()
    w.admin.report({ target: orders })
    const done = await running
    expect(done).toMatchObject({ exit: 0 })
    expect(done.stderr).toContain('waiting for 1 proxy')
    expect(done.stdout).toContain('live at 1 proxy')
  })

  test('with --wait gives up in time and names who is late', async () => {
    await using w = await world()
    w.admin.report({ target: orders, snapshotId: 'old', state: 'incompatible' })
    const done = await w.run(['apply', '--wait', '--timeout', '1s', '-f', '-'], { stdin: reads })
    expect(done.exit).toBe(6)
    expect(done.stderr).toContain(`not live everywhere after 1 s: ${orders} (incompatible)`)
  })
})

describe('policy list, show and delete', () => {
  test('list what is stored', async () => {
    await using w = await world()
    expect((await w.run(['list'])).stdout).toContain('no policies; countersign policy apply')
    await w.run(['apply', '-f', '-'], { stdin: reads + expectation })
    const { stdout } = await w.run(['list'])
    expect(stdout).toMatch(/AccessPolicy +shop\/orders +orders +1 rule +1/)
    expect(stdout).toMatch(/PolicyTest +shop\/orders +orders +1 case +1/)
    const json = await w.run(['list', '--kind', 'PolicyTest', '-o', 'json'])
    expect(JSON.parse(json.stdout)).toMatchObject({
      documents: [{ kind: 'PolicyTest', namespace: 'shop', name: 'orders', revision: '1' }],
    })
  })

  test('what show prints can be applied again', async () => {
    await using w = await world()
    await w.run(['apply', '-f', '-'], { stdin: reads })
    const shown = await w.run(['show', 'shop/orders'])
    expect(shown).toMatchObject({ exit: 0 })
    const again = await w.run(['apply', '-f', '-', '-o', 'json'], { stdin: shown.stdout })
    expect(JSON.parse(again.stdout)).toMatchObject({ documents: [{ change: 'unchanged' }] })
  })

  test('a name that is not there, or there twice, is refused', async () => {
    await using w = await world()
    await w.run(['apply', '-f', '-'], { stdin: reads + expectation })
    expect((await w.run(['show', 'x'])).stderr).toContain('there is no policy x')
    const twice = await w.run(['show', 'orders'])
    expect(twice.exit).toBe(2)
    expect(twice.stderr).toContain(
      'orders is one of AccessPolicy shop/orders, PolicyTest shop/orders; say which by --kind and <namespace>/<name>',
    )
    expect(await w.run(['show', 'orders', '--kind', 'PolicyTest'])).toMatchObject({ exit: 0 })
  })

  test('delete asks for --yes when nobody can be asked, and says what goes', async () => {
    await using w = await world()
    await w.run(['apply', '-f', '-'], { stdin: reads })
    const refused = await w.run(['delete', 'orders'])
    expect(refused.exit).toBe(2)
    expect(refused.stderr).toContain('AccessPolicy orders: 1 rule for orders')
    expect(w.admin.documents()).toHaveLength(1)

    const done = await w.run(['delete', 'orders', '--yes'])
    expect(done).toMatchObject({ exit: 0 })
    expect(done.stdout).toBe('deleted AccessPolicy shop/orders\n1 app got a new snapshot\n')
    expect(w.admin.documents()).toEqual([])
  })
})

describe('policy explain', () => {
  test.each([
    ['short names', 'checkout', 'orders'],
    ['names with namespaces', 'shop/checkout', 'shop/orders'],
    ['SPIFFE IDs', checkout, orders],
  ])('asks the sentry about %s', async (_, from, to) => {
    await using w = await world()
    await w.run(['apply', '-f', '-'], { stdin: reads })
    const call = ['--from', from, '--to', to]
    const allowed = await w.run(['explain', ...call, '--method', 'GET', '--path', '//orders/42'])
    expect(allowed).toMatchObject({ exit: 0, stderr: '' })
    expect(allowed.stdout).toContain('allowed: allow-rule orders/reads')
    expect(allowed.stdout).toContain('GET /orders/42')

    const denied = await w.run(['explain', ...call, '--method', 'DELETE', '--path', '/orders/42'])
    expect(denied.stdout).toContain('denied: no-rule')
    expect(denied.stdout).toContain('method: wants GET, found DELETE')
    const suggestion = denied.stdout.slice(denied.stdout.indexOf('apiVersion:'))
    await w.run(['apply', '-f', '-'], { stdin: suggestion })
    const after = await w.run([
      'explain',
      ...call,
      '--method',
      'DELETE',
      '--path',
      '/orders/42',
      '-o',
      'json',
    ])
    expect(JSON.parse(after.stdout)).toMatchObject({
      schema: 'countersign/policy-explanation/v1',
      decision: 'allow',
      rule: 'allow-checkout-to-orders/suggested',
      from: checkout,
      to: orders,
    })
  })

  test.each([
    ['a gRPC method', ['--grpc', 'shop.Orders/Get']],
    ['a raw connection', ['--tcp', '--port', '8080']],
    [
      'a caller without an identity',
      ['--path', '/x', '--from', 'unauthenticated', '--because', 'svid-expired'],
    ],
  ])('asks files about %s', async (_, call) => {
    const args = ['policy', 'explain', '-f', '-', '--from', checkout, '--to', orders, ...call]
    const done = await cliRun(args, { stdin: reads })
    expect(done).toMatchObject({ exit: 0, stderr: '' })
    expect(done.stdout).toContain('denied: ')
  })

  test.each([
    [
      'an app that no entry names',
      ['--to', 'nobody', '--path', '/'],
      1,
      'no entry names an app nobody',
    ],
    [
      'a name of three parts',
      ['--from', 'a/b/c', '--path', '/'],
      2,
      'neither <namespace>/<app> nor a SPIFFE ID',
    ],
    ['no call', [], 2, 'name one call'],
    ['two calls', ['--tcp', '--path', '/'], 2, 'name one call'],
    ['a method alone', ['--method', 'GET'], 2, '--method needs --path'],
    ['a port that is none', ['--tcp', '--port', '70000'], 2, 'takes a port'],
    ['another reason', ['--tcp', '--because', 'tired'], 2, "argument 'tired' is invalid"],
  ])('refuses %s', async (_, args, exit, message) => {
    await using w = await world()
    const done = await w.run(['explain', '--from', 'checkout', '--to', 'orders', ...args])
    expect(done.exit).toBe(exit)
    expect(done.stderr).toContain(message)
  })

  test('refuses files of an unknown trust domain', async () => {
    const args = ['policy', 'explain', '-f', '-', '--from', 'a/b', '--to', 'c/d', '--tcp']
    const done = await cliRun(args, { stdin: reads })
    expect(done.exit).toBe(2)
    expect(done.stderr).toContain('--trust-domain')
  })
})

describe('policy test', () => {
  const run = (stdin: string, ...args: readonly string[]) =>
    cliRun(['policy', 'test', '-f', '-', ...args], { stdin, now: () => new Date(NOW) })

  test('prints cases and coverage', async () => {
    const done = await run(reads + expectation)
    expect(done).toMatchObject({ exit: 0, stderr: '' })
    expect(done.stdout).toMatch(/ok +shop\/orders 1 .* GET \/orders\/42 +allow orders\/reads/)
    expect(done.stdout).toMatch(/shop\/orders\/reads +1 +1/)
    expect(done.stdout).toContain('1 case passed, 0 failed; 1 of 1 rule covered')
  })

  test('fails when a case fails', async () => {
    const done = await run(reads + expectation.replace('expect: allow', 'expect: deny'))
    expect(done.exit).toBe(3)
    expect(done.stdout).toMatch(/failed +shop\/orders 1/)
    expect(done.stderr).toContain('1 of 1 case failed')
  })

  test('says so when there is nothing to test', async () => {
    expect(await run(reads)).toMatchObject({ exit: 7 })
  })

  test('works on the dapr layout and any trust domain', async () => {
    const dapr = expectation.replaceAll('/sa/', '/').replaceAll('example.test', 'other.test')
    expect(await run(reads + dapr, '--layout', 'dapr')).toMatchObject({ exit: 0 })
    const mixed =
      expectation +
      '    - { from: spiffe://b.test/ns/x/sa/y, to: { app: orders, tcp: true }, expect: deny }\n'
    const unclear = await run(reads + mixed)
    expect(unclear.exit).toBe(2)
    expect(unclear.stderr).toContain('--trust-domain')
    expect(await run(reads + mixed, '--trust-domain', 'example.test')).toMatchObject({ exit: 0 })
  })

  test('prints JSON', async () => {
    const done = await run(reads + expectation, '-o', 'json')
    expect(JSON.parse(done.stdout)).toMatchObject({
      schema: 'countersign/policy-test/v1',
      passed: 1,
      failed: 0,
      cases: [{ test: 'shop/orders', case: 1, passed: true }],
      coverage: [{ document: 'shop/orders', rule: 'reads', matched: 1, decided: 1 }],
    })
  })
})

describe('policy status', () => {
  test('says which proxy enforces what', async () => {
    await using w = await world()
    await w.run(['apply', '-f', '-'], { stdin: reads })
    w.admin.report({ target: orders })
    w.admin.report({
      target: checkout,
      snapshotId: 'old',
      state: 'invalid',
      code: 'CS_SNAPSHOT_INVALID',
    })
    const { stdout } = await w.run(['status'])
    expect(stdout).toMatch(/shop\/sa\/orders +[0-9a-f]{12} +\d+ +1\/1 current/)
    expect(stdout).toMatch(/shop\/sa\/checkout +[0-9a-f]{12} +\d+ +0\/1 current/)
    expect(stdout).toContain('invalid (CS_SNAPSHOT_INVALID)')
    const json = await w.run(['status', '-o', 'json'])
    expect(JSON.parse(json.stdout)).toMatchObject({
      targets: [
        { target: orders, live: true, proxies: [{ state: 'current', connected: true }] },
        { target: checkout, live: false, proxies: [{ state: 'invalid' }] },
      ],
    })
  })

  test('with --wait ends when all is live', async () => {
    await using w = await world()
    w.admin.report({ target: orders, snapshotId: 'old', state: 'stale' })
    const running = w.run(['status', '--wait'])
    await w.admin.watched()
    w.admin.report({ target: orders })
    expect(await running).toMatchObject({ exit: 0 })
  })
})

test.each([
  ['list', []],
  ['show', ['x']],
  ['delete', ['x', '--yes']],
  ['status', []],
  ['apply', ['-f', '-']],
  ['explain', ['--from', 'a', '--to', 'b', '--tcp']],
])('policy %s without a sentry ends with exit code 6', async (verb, args) => {
  await using folder = await tempFolder()
  const socket = ['--sentry-socket', folder.file('none.sock')]
  const { exit, stderr } = await cliRun(['policy', verb, ...socket, ...args], { stdin: reads })
  expect(exit).toBe(6)
  expect(stderr).toContain('CS_SENTRY_UNREACHABLE')
})

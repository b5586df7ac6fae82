import { status } from '@grpc/grpc-js'
import { expect, test } from 'vitest'
import {
  PolicyAdminClient,
  type StatusResponse,
} from '../../../proto/gen/countersign/policy/v1/policy.js'
import { UpdatesClient } from '../../../proto/gen/countersign/sentry/v1/updates.js'
import { EntryClient } from '../../../proto/gen/spire/api/server/entry/v1/entry.js'
import { Entry, EntryMask } from '../../../proto/gen/spire/api/types/types.js'
import { pathOf, type SpiffeId } from '../../../spiffe/index.js'
import { tempFolder } from '../../support/temp-folder.js'
import {
  ask,
  nextOf,
  refusalOf,
  runningIn,
  type TestSentry,
  testSentry,
  trustDomain,
} from '../running-sentry.js'

const target = (app: string) => `spiffe://prod.example/${app}`

async function register(test: TestSentry, apps: readonly string[], parent = '/node') {
  const entries = apps.map((app) =>
    Entry.create({
      id: app,
      spiffeId: { trustDomain, path: `/${app}` },
      parentId: { trustDomain, path: parent },
      selectors: [{ type: 'unix', value: 'uid:1' }],
    }),
  )
  await ask(test.local(EntryClient), 'batchCreateEntry', {
    entries,
    outputMask: EntryMask.create(),
  })
}

const apply = (test: TestSentry, text: string, dryRun = false) =>
  ask(test.local(PolicyAdminClient), 'apply', { text, source: 'test.yaml', dryRun })

const everything = { kind: '', namespace: '', name: '' }
const ref = (name: string) => ({ kind: 'AccessPolicy', namespace: 'shop', name })

async function generationOf(test: TestSentry, app: string) {
  const answer = await ask(test.local(PolicyAdminClient), 'getSnapshot', { target: target(app) })
  return JSON.parse(Buffer.from(answer.content).toString()) as { generation: string }
}

test('applying says of each document whether it is new, and which targets changed by it', async () => {
  await using test = await testSentry()
  await register(test, ['shop', 'orders'])
  const first = await apply(test, 'a shop one\nb orders two')
  expect(first.outcomes.map(({ ref, change, revision }) => [ref?.name, change, revision])).toEqual([
    ['a', 'created', 1n],
    ['b', 'created', 1n],
  ])
  expect([...first.changedTargets.keys()]).toEqual([target('shop'), target('orders')])

  const second = await apply(test, 'a shop one\nb orders three\nc nobody four')
  expect(second.outcomes.map(({ change, revision }) => [change, revision])).toEqual([
    ['unchanged', 1n],
    ['updated', 2n],
    ['created', 1n],
  ])
  expect([...second.changedTargets.keys()]).toEqual([target('orders')])
  expect(second.sequence).toBeGreaterThan(first.sequence)

  const again = await apply(test, 'a shop one')
  expect([again.outcomes[0]?.change, again.changedTargets.size]).toEqual(['unchanged', 0])
})

test('a document that moves to another target changes both', async () => {
  await using test = await testSentry()
  await register(test, ['shop', 'orders'])
  await apply(test, 'a shop one')
  const moved = await apply(test, 'a orders one')
  expect([...moved.changedTargets.keys()].sort()).toEqual([target('orders'), target('shop')])
})

test('a document for every app changes every target', async () => {
  await using test = await testSentry()
  const apps = Array.from({ length: 250 }, (_, index) => `app-${index}`)
  await register(test, apps)
  const { changedTargets } = await apply(test, 'mesh * quarantine')
  expect(changedTargets.size).toBe(250)
  expect((await generationOf(test, 'app-249')).generation).toBe('2')
})

test('all of a request is stored or none of it', async () => {
  await using test = await testSentry()
  await register(test, ['shop'])
  const refusal = await refusalOf(apply(test, 'a shop one\n!b shop two'))
  expect([refusal.status, refusal.code]).toEqual([status.INVALID_ARGUMENT, 'CS_POLICY_INVALID'])
  expect(refusal.message).toContain('is refused')
  const admin = test.local(PolicyAdminClient)
  expect((await ask(admin, 'list', everything)).documents).toEqual([])
  expect(await generationOf(test, 'shop')).toMatchObject({ generation: '1' })
})

test('a dry run says what would be, and changes nothing', async () => {
  await using test = await testSentry()
  await register(test, ['shop'])
  const tried = await apply(test, 'a shop one', true)
  expect(tried.outcomes[0]).toMatchObject({ change: 'created', revision: 1n })
  expect([...tried.changedTargets.keys()]).toEqual([target('shop')])
  const admin = test.local(PolicyAdminClient)
  expect((await ask(admin, 'list', everything)).documents).toEqual([])
  const done = await apply(test, 'a shop one')
  expect(done.changedTargets).toEqual(tried.changedTargets)
})

test('documents are listed by what is asked, and deleted all or none', async () => {
  await using test = await testSentry()
  await register(test, ['shop'])
  await apply(test, 'a shop one\nb shop two')
  const admin = test.local(PolicyAdminClient)
  const named = await ask(admin, 'list', { ...everything, name: 'b' })
  expect(named.documents).toMatchObject([
    { ref: ref('b'), json: '{"app":"shop","text":"two"}', revision: 1n },
  ])
  expect((await ask(admin, 'list', { ...everything, kind: 'Guardrail' })).documents).toEqual([])

  const missing = await refusalOf(ask(admin, 'delete', { refs: [ref('a'), ref('x')] }))
  expect([missing.status, missing.code]).toEqual([status.NOT_FOUND, 'CS_POLICY_NOT_FOUND'])
  expect((await ask(admin, 'list', everything)).documents).toHaveLength(2)
  const { changedTargets } = await ask(admin, 'delete', { refs: [ref('a')] })
  expect([...changedTargets.keys()]).toEqual([target('shop')])
  expect(await generationOf(test, 'shop')).toMatchObject({ generation: '3', policies: ['two'] })
})

test('a target is what an entry names, and nothing else', async () => {
  await using test = await testSentry()
  const admin = test.local(PolicyAdminClient)
  for (const [name, code] of [
    [target('nobody'), status.NOT_FOUND],
    ['not an id', status.INVALID_ARGUMENT],
  ] as const) {
    expect((await refusalOf(ask(admin, 'getSnapshot', { target: name }))).status).toBe(code)
  }
})

test('generations go on after a restart, and after the target was away', async () => {
  await using folder = await tempFolder()
  {
    await using test = await runningIn(folder)
    await register(test, ['shop'])
    await apply(test, 'a shop one')
    expect(await generationOf(test, 'shop')).toMatchObject({ generation: '2' })
    await ask(test.local(EntryClient), 'batchDeleteEntry', { ids: ['shop'] })
    await apply(test, 'a shop two')
  }
  await using test = await runningIn(folder)
  await register(test, ['shop'])
  await apply(test, 'b orders x')
  expect(await generationOf(test, 'shop')).toMatchObject({ generation: '3', policies: ['two'] })
})

async function until(
  call: ReturnType<PolicyAdminClient['watchStatus']>,
  holds: (status: StatusResponse) => boolean,
): Promise<StatusResponse> {
  for (;;) {
    const message = await nextOf(call)
    if (!message) throw new Error('the stream ended')
    if (holds(message)) return message
  }
}

test('the status shows targets, and what proxies say of themselves, as it changes', async () => {
  await using test = await testSentry()
  const agent = await test.attest()
  const watch = test.local(PolicyAdminClient).watchStatus({})
  expect(await nextOf(watch)).toEqual({ targets: [], proxies: [] })
  await register(test, ['shop'], pathOf(agent.id as SpiffeId))
  const { targets } = await until(watch, ({ targets }) => targets.length === 1)
  expect(targets[0]).toMatchObject({ target: target('shop'), generation: 1n })

  const follow = test.remote(UpdatesClient, agent.svid).follow()
  follow.write({ step: { $case: 'start', value: { agentVersion: '' } } })
  const first = await nextOf(follow)
  const report = {
    target: target('shop'),
    instance: 'one',
    snapshotId: targets[0]?.snapshotId ?? '',
    generation: 1n,
    state: 'current',
    code: '',
  }
  const acknowledge = (reports: (typeof report)[]) =>
    follow.write({
      step: {
        $case: 'acknowledgement',
        value: { sequence: first?.sequence ?? 0n, bundleSequence: 1n, reports },
      },
    })
  acknowledge([report])
  const told = await until(watch, ({ proxies }) => proxies.length === 1)
  expect(told.proxies[0]).toMatchObject({ report, agent: agent.id, connected: true })
  expect(told.proxies[0]?.reportedAt).toBeGreaterThan(1_700_000_000n)

  acknowledge([{ ...report, instance: 'two' }])
  const replaced = await until(watch, ({ proxies }) => proxies[0]?.report?.instance === 'two')
  expect(replaced.proxies).toHaveLength(1)
  follow.cancel()
  await until(watch, ({ proxies }) => proxies[0]?.connected === false)
  watch.cancel()
})

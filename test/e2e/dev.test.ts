import { describe, expect, test } from 'vitest'
import { countersign, type RunningProgram, startProgram } from '../support/countersign.js'
import { isAlive, untilGone } from '../support/processes.js'
import { tempFolder } from '../support/temp-folder.js'

const MINUTE = 60_000

interface DevEvent {
  readonly event: string
  readonly part: string
  readonly text: string
  readonly [detail: string]: unknown
}

const eventsOf = (text: string) =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as DevEvent)

describe('countersign dev --once', () => {
  test(
    'shows one call that is allowed and one that is refused, and leaves nothing running',
    async () => {
      const { code, stdout, stderr } = await countersign(['dev', '--once', '--json'])
      expect(stderr).toBe('')
      expect(code).toBe(0)
      const events = eventsOf(stdout)

      const order = events.map(({ event, part }) => `${event} ${part}`)
      const milestones = [
        'ca-made sentry',
        'agent-attested agent',
        'policy-applied policy',
        'policy-live policy',
        'svid-issued orders',
        'call shop',
        'decision orders',
      ]
      expect(
        order.filter((name, at) => milestones.includes(name) && order.indexOf(name) === at),
      ).toEqual(milestones)

      const calls = events.filter(({ event }) => event === 'call')
      expect(calls.map(({ method, status }) => [method, status])).toEqual([
        ['GET', 200],
        ['DELETE', 403],
      ])
      expect(JSON.parse(String(calls[0]?.body))).toMatchObject({
        order: '42',
        caller: 'spiffe://example.test/ns/shop/sa/shop',
      })

      const decisions = events.filter(({ event }) => event === 'decision')
      expect(decisions[0]).toMatchObject({
        snapshot_id: expect.stringMatching(/^[0-9a-f]{64}$/),
        decision: 'allow',
        policy: 'orders',
        rule: 'shop-reads-orders',
      })
      expect(decisions[1]).toMatchObject({
        decision: 'deny',
        reason: 'no-rule',
        caller: 'spiffe://example.test/ns/shop/sa/shop',
      })
      expect(decisions[1]?.decision_id).toBe(calls[1]?.decisionId)

      const pids = events
        .filter(({ event }) => event === 'process-ready')
        .map(({ pid }) => Number(pid))
      expect(pids).toHaveLength(6)
      expect(pids.filter(isAlive)).toEqual([])
    },
    2 * MINUTE,
  )

  test(
    'tells the refused caller nothing but that it was refused, and an id',
    async () => {
      const { stdout } = await countersign([
        'dev',
        '--once',
        '--json',
        '--trust-domain',
        'other.example',
      ])
      const refused = eventsOf(stdout).find(
        ({ event, status }) => event === 'call' && status === 403,
      )
      expect(Object.keys(JSON.parse(String(refused?.body)) as object).toSorted()).toEqual([
        'decision_id',
        'type',
      ])
    },
    2 * MINUTE,
  )

  test(
    'comes up again from the data that it kept',
    async () => {
      await using dir = await tempFolder()
      const args = ['dev', '--once', '--json', '--data-dir', dir.path]
      const first = await countersign(args)
      const second = await countersign(args)

      expect([first.code, second.code]).toEqual([0, 0])
      const rootOf = ({ stdout }: { stdout: string }) =>
        eventsOf(stdout).find(({ event }) => event === 'ca-made')?.fingerprint
      expect(rootOf(second)).toBe(rootOf(first))
    },
    3 * MINUTE,
  )
})

describe('countersign dev', () => {
  test(
    'ends everything on Ctrl-C',
    async () => {
      await using dev = await startDev()
      const pids = pidsOf(dev)
      await dev.kill('SIGINT')
      expect(dev.child.exitCode).toBe(0)
      expect(pids.filter(isAlive)).toEqual([])
    },
    2 * MINUTE,
  )

  test(
    'leaves nothing behind even when it is killed',
    async () => {
      await using dev = await startDev()
      const pids = pidsOf(dev)
      await dev.kill('SIGKILL')
      await untilGone(pids)
    },
    2 * MINUTE,
  )
})

const startDev = () => startProgram(['dev', '--json'])

function pidsOf(dev: RunningProgram): number[] {
  return dev.stdout
    .map((line) => JSON.parse(line) as DevEvent)
    .filter(({ event }) => event === 'process-ready')
    .map(({ pid }) => Number(pid))
}

import { describe, expect, test } from 'vitest'
import { countersign } from '../support/countersign.js'
import { type RunningDemo, startDemo } from '../support/demo.js'
import { askJson, startSentry } from '../support/product.js'
import { seededRandom } from '../support/seeded-random.js'
import { tempFolder } from '../support/temp-folder.js'
import { EVERYTHING } from '../support/tools.js'

const MINUTE = 60_000
/** Fixed, so that a failure can be had again. CI goes through all of them. */
const SEEDS = EVERYTHING ? [1, 7, 42] : [42]
const FIRST_MOMENTS = EVERYTHING ? [3, 11, 19, 23] : [11]
const KILLS_PER_SEED = 4
const VICTIMS = ['sentry', 'agent', 'orders-sidecar', 'shop-sidecar'] as const

describe('kill -9', () => {
  test.each(SEEDS)(
    'of sentry, agent or sidecar at any moment of the demonstration loses nothing (seed %i)',
    async (seed) => {
      const random = seededRandom(seed)
      await using folder = await tempFolder()
      await using demo = await startDemo(['--data-dir', folder.path, '--svid-ttl', '10s'])
      const before = await stateOf(demo)

      for (let kill = 0; kill < KILLS_PER_SEED; kill += 1) {
        const victim = VICTIMS[Math.floor(random.fraction() * VICTIMS.length)]!
        await callsFor(demo, Math.floor(random.fraction() * 1500))
        process.kill(demo.pidOf(victim), 'SIGKILL')
        await untilCallsWork(demo)
      }
      await untilSentryAnswers(demo)
      expect(await stateOf(demo)).toEqual(before)
    },
    4 * MINUTE,
  )

  test.each(FIRST_MOMENTS)(
    'of a sentry in its first moments leaves a folder from which it starts (seed %i)',
    async (seed) => {
      const random = seededRandom(seed)
      await using folder = await tempFolder()
      for (let life = 0; life < 3; life += 1) {
        const starting = startSentry({ folder })
        const victim = starting.then(
          (sentry) => sentry,
          () => undefined,
        )
        await new Promise((resolve) => setTimeout(resolve, Math.floor(random.fraction() * 600)))
        const sentry = await Promise.race([victim, Promise.resolve(undefined)])
        if (sentry) await sentry.program.kill('SIGKILL')
        else await (await victim)?.program.kill('SIGKILL')
      }
      await using sentry = await startSentry({ folder })
      const { entries } = await sentry.ask('entry', 'list')
      expect(entries).toEqual([])
    },
    2 * MINUTE,
  )
})

/** What must outlive every process: entries, keys, agents, policies, and a change log that only grows. */
async function stateOf(demo: RunningDemo): Promise<unknown> {
  const sentry = ['--sentry-socket', demo.sentrySocket, '-o', 'json']
  const { entries } = await askJson(['entry', 'list', ...sentry])
  const { documents } = await askJson(['policy', 'list', ...sentry])
  const { agents } = await askJson(['agent', 'list', ...sentry])
  const { stdout: roots } = await countersign([
    'bundle',
    'show',
    '--format',
    'pem',
    '--sentry-socket',
    demo.sentrySocket,
  ])
  // What is not there cannot be lost.
  for (const part of [entries, documents, agents, roots]) expect(part).not.toHaveLength(0)
  return { entries, documents, roots, agents: (agents as { id: string }[]).map(({ id }) => id) }
}

/** Calls without a pause for a while, so that the kill falls into the middle of one. */
async function callsFor(demo: RunningDemo, ms: number): Promise<void> {
  const end = performance.now() + ms
  do await statusOf(demo, 'GET')
  while (performance.now() < end)
}

async function untilCallsWork(demo: RunningDemo): Promise<void> {
  for (;;) {
    const allowed = await statusOf(demo, 'GET')
    const denied = await statusOf(demo, 'DELETE')
    expect(denied, 'a call that no rule allows').not.toBe(200)
    if (allowed === 200 && denied === 403) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** Calls go on while the sentry is away, so they do not tell when it is back. */
async function untilSentryAnswers(demo: RunningDemo): Promise<void> {
  for (;;) {
    const { code } = await countersign(['entry', 'list', '--sentry-socket', demo.sentrySocket])
    if (code === 0) return
  }
}

/** 0 when there is no answer at all. */
async function statusOf(demo: RunningDemo, method: string): Promise<number> {
  try {
    const answer = await fetch(`http://${demo.shop}/orders/42`, {
      method,
      signal: AbortSignal.timeout(5000),
    })
    await answer.arrayBuffer()
    return answer.status
  } catch {
    return 0
  }
}

import { type AgentOptions, type RunningAgent, startAgent } from '../../agent/agent.js'
import { createMetrics } from '../../platform/metrics.js'
import { openSealer, sealedFile } from '../../platform/sealer.js'
import { type TestAuthority, testAuthority } from '../support/authority.js'
import { type FakeClock, fakeClock } from '../support/fake-clock.js'
import { type FakeSentry, type FakeSentryOptions, fakeSentry } from '../support/fake-sentry.js'
import { type MemoryLog, memoryLog } from '../support/memory-log.js'
import { seededRandom } from '../support/seeded-random.js'
import { type TempFolder, tempFolder } from '../support/temp-folder.js'

/** A sentry and everything an agent needs to run against it; nothing runs yet but the sentry. */
export interface World extends AsyncDisposable {
  readonly clock: FakeClock
  readonly authority: TestAuthority
  readonly sentry: FakeSentry
  readonly folder: TempFolder
  readonly log: MemoryLog
  /** Starts an agent on the state file of this world. */
  agent(options?: Partial<AgentOptions>): Promise<RunningAgent>
}

const SEAL_KEY = new Uint8Array(32).fill(7)

export async function world(
  options: Partial<FakeSentryOptions> & { readonly seed?: number } = {},
): Promise<World> {
  const clock = fakeClock()
  const authority = options.authority ?? testAuthority('prod.example', { now: clock.now })
  const sentry = await fakeSentry({ clock, authority, ...options })
  const folder = await tempFolder()
  const log = memoryLog()
  const running: RunningAgent[] = []
  let seed = options.seed ?? 1
  return {
    clock,
    authority,
    sentry,
    folder,
    log,
    async agent(changes = {}) {
      const agent = await startAgent({
        trustDomain: authority.trustDomain,
        sentries: [sentry.address],
        trustBundle: authority.bundle,
        stateFile: await stateFileIn(folder),
        version: '0.1.0-test',
        clock,
        random: seededRandom(seed++),
        log,
        metrics: createMetrics(),
        ...changes,
      })
      running.push(agent)
      return agent
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(running.map((agent) => agent.close()))
      await sentry[Symbol.asyncDispose]()
      await folder[Symbol.asyncDispose]()
    },
  }
}

export async function stateFileIn(folder: TempFolder, key = SEAL_KEY) {
  const sealer = await openSealer({ kind: 'key', bytes: key })
  return sealedFile({ path: folder.file('agent-state'), sealer, context: 'agent state' })
}

/** Resolves once `met` holds, which is looked at after every change of the agent's identities. */
export function untilHeld(
  agent: RunningAgent,
  met: () => boolean,
  what = 'a change',
): Promise<void> {
  return new Promise((resolve, reject) => {
    const deadline = setTimeout(() => {
      stop()
      reject(new Error(`did not happen: ${what}; ${JSON.stringify(statusOf(agent))}`))
    }, 15_000)
    const look = () => {
      if (!met()) return
      clearTimeout(deadline)
      stop()
      resolve()
    }
    const stop = agent.identities.onChange(look)
    look()
  })
}

function statusOf({ identities }: RunningAgent): Record<string, unknown> {
  return { ...identities.status(), sequence: Number(identities.status().sequence) }
}

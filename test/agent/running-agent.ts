import { type AgentOptions, type RunningAgent, startAgent } from '../../agent/agent.js'
import { type AgentState, readState } from '../../agent/state.js'
import { createMetrics } from '../../platform/metrics.js'
import { openSealer, type SealedFile, sealedFile } from '../../platform/sealer.js'
import type { Entry } from '../../proto/gen/spire/api/types/types.js'
import { type TestAuthority, testAuthority } from '../support/authority.js'
import { type FakeClock, fakeClock } from '../support/fake-clock.js'
import { type FakeSentry, type FakeSentryOptions, fakeSentry } from '../support/fake-sentry.js'
import { type MemoryLog, memoryLog } from '../support/memory-log.js'
import { seededRandom } from '../support/seeded-random.js'
import { type TempFolder, tempFolder } from '../support/temp-folder.js'
import { until } from '../support/until.js'

/** A sentry and everything an agent needs to run against it; nothing runs yet but the sentry. */
export interface World extends AsyncDisposable {
  readonly clock: FakeClock
  readonly authority: TestAuthority
  readonly sentry: FakeSentry
  readonly folder: TempFolder
  readonly log: MemoryLog
  /** Resolves once the state on disk is as wanted: unless told otherwise, what the last agent holds. */
  sealed(met?: (state: AgentState) => boolean): Promise<AgentState>
  /** Moves the clock to a moment, in milliseconds since 1970. */
  advanceTo(moment: number): Promise<void>
  /** Lets time pass, slowly enough for calls to be answered meanwhile, until `met` holds. */
  passUntil(met: () => boolean): Promise<void>
  /** Starts an agent on the state file of this world. */
  agent(options?: Partial<AgentOptions>): Promise<RunningAgent>
}

/** Twenty times as fast as real time, so that no real call looks as if it had timed out. */
const STEP_MS = 100
const PAUSE_MS = 5

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
  let written: Uint8Array | undefined
  const recording = (file: SealedFile): SealedFile => ({
    ...file,
    async write(plain) {
      await file.write(plain)
      written = plain
    },
  })
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
        stateFile: recording(await stateFileIn(folder)),
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
    async sealed(met = asHeldBy(running)) {
      const isMet = () => {
        const state = written && readState(written, authority.trustDomain)
        return state && met(state) ? state : undefined
      }
      if (!isMet()) await clock.advance(250)
      await until(() => isMet() !== undefined)
      return isMet()!
    },
    advanceTo: (moment) => clock.advance(moment - clock.now().getTime()),
    async passUntil(met) {
      while (!met()) {
        await clock.advance(STEP_MS)
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
      }
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(running.map((agent) => agent.close()))
      await sentry[Symbol.asyncDispose]()
      await folder[Symbol.asyncDispose]()
    },
  }
}

function asHeldBy(running: readonly RunningAgent[]): (state: AgentState) => boolean {
  const status = running.at(-1)!.identities.status()
  return ({ own, held }) =>
    own?.svid.id === status.agentId &&
    held.entries.length === status.entries &&
    held.svids.size === status.x509Svids
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

/** An agent that has attested with a token and holds an SVID for each of its entries. */
export async function attested(
  w: World,
  options: {
    readonly entries?: readonly Entry[]
    readonly token?: string
  } & Partial<AgentOptions> = {},
): Promise<RunningAgent> {
  const { entries = [], token = 'token-1', ...rest } = options
  w.sentry.addToken(token)
  if (entries.length > 0) w.sentry.setEntries(...entries)
  const agent = await w.agent({ joinToken: token, ...rest })
  await agent.whenReady(AbortSignal.timeout(15_000))
  await untilHeld(agent, () => agent.identities.status().x509Svids === entries.length)
  return agent
}

function statusOf({ identities }: RunningAgent): Record<string, unknown> {
  return { ...identities.status(), sequence: Number(identities.status().sequence) }
}

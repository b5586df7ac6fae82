import { systemClock } from '../../platform/clock.js'
import type { CliContext } from '../context.js'
import { CliError } from '../errors.js'
import { type Child, startChild } from './child.js'
import type { Report } from './report.js'

/** A process that is kept running. When it ends unasked it is started again, at the addresses it had. */
export interface Supervised {
  readonly name: string
  /** What it announced in its present life. */
  addresses(): Readonly<Record<string, string>>
  pid(): number
  stop(): Promise<void>
}

export interface SuperviseOptions {
  readonly name: string
  /** The arguments of `countersign`; `before` is what an earlier life announced, so that ports stay. */
  readonly args: (before: Readonly<Record<string, string>>) => readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly onLine?: (line: string, isError: boolean) => void
  readonly context: CliContext
  readonly report: Report
  readonly signal: AbortSignal
}

/** More restarts than this in one life of the demonstration means that something is wrong for good. */
const MAX_RESTARTS = 50
const MAX_ATTEMPTS = 10
const RETRY_MS = 500

export async function supervise(options: SuperviseOptions): Promise<Supervised> {
  const { name, report } = options
  let current = await start(options, {})
  let stopping = false
  let restarts = 0
  const watching = (async () => {
    while (restarts < MAX_RESTARTS) {
      const how = await current.gone
      if (stopping || options.signal.aborted) return
      restarts += 1
      report.say({
        event: 'process-ended',
        part: name,
        text: `ended unasked (${how}); starting it again`,
        details: { how },
      })
      const next = await startAgain(options, addressesOf(current))
      if (!next) return
      current = next
      if (stopping) await current.stop()
    }
  })()
  return {
    name,
    addresses: () => addressesOf(current),
    pid: () => current.pid,
    async stop() {
      stopping = true
      await current.stop()
      await watching
    },
  }
}

/** Tries again for a while: what a killed process held, such as its port, may be free only a moment later. */
async function startAgain(
  options: SuperviseOptions,
  before: Readonly<Record<string, string>>,
): Promise<Child | undefined> {
  const { name, report, signal } = options
  for (let attempt = 1; attempt <= MAX_ATTEMPTS && !signal.aborted; attempt += 1) {
    try {
      return await start(options, before)
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      report.say({ event: 'process-failed', part: name, text: why, details: { error: why } })
      await systemClock.sleep(RETRY_MS, signal).catch(() => undefined)
    }
  }
  return undefined
}

async function start(
  options: SuperviseOptions,
  before: Readonly<Record<string, string>>,
): Promise<Child> {
  const { name, args, context, signal, report } = options
  const child = await startChild({
    name,
    args: args(before),
    environment: { ...context.environment, ...options.environment },
    onLine: options.onLine ?? (() => undefined),
    signal,
  })
  report.say({
    event: 'process-ready',
    part: name,
    text: `running as process ${child.pid}`,
    details: { pid: child.pid, addresses: child.addresses },
  })
  return child
}

function addressesOf(child: Child): Readonly<Record<string, string>> {
  const wrong = Object.entries(child.addresses).find(([, value]) => typeof value !== 'string')
  if (wrong)
    throw new CliError('CS_DEV_FAILED', `${child.name} announced ${wrong[0]} without an address`)
  return child.addresses as Readonly<Record<string, string>>
}

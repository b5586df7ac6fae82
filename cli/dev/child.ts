import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { CliError } from '../errors.js'
import { READY_FD_VARIABLE, STOP_WITH_PARENT_VARIABLE } from '../process.js'

export interface ChildOptions {
  readonly name: string
  /** Arguments of the `countersign` command. */
  readonly args: readonly string[]
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Given each line that the child writes, and whether it is on standard error. */
  readonly onLine: (line: string, isError: boolean) => void
  readonly signal: AbortSignal
}

/** A process of the demonstration. It ends with this process, however this process ends. */
export interface Child {
  readonly name: string
  readonly pid: number
  /** What the child announced once it was ready. */
  readonly addresses: Readonly<Record<string, unknown>>
  /** Resolves when the process is gone, with how it ended. */
  readonly gone: Promise<string>
  /** Asks it to stop, and makes it after a while. Resolves when it is gone. */
  stop(): Promise<void>
}

const READY_FD = 3
const READY_TIMEOUT_MS = 60_000
const STOP_TIMEOUT_MS = 10_000
/** Kept of what a child wrote, to be shown when it does not come up. */
const LAST_LINES = 12

/** Starts a process and waits until it is ready. Throws `CS_DEV_FAILED` with its last words if it is not. */
export async function startChild(options: ChildOptions): Promise<Child> {
  const child = spawnChild(options)
  const gone = endOf(child)
  const lastLines: string[] = []
  const listen = (stream: Readable | null, isError: boolean) => {
    if (!stream) return
    createInterface({ input: stream }).on('line', (line) => {
      lastLines.push(line)
      if (lastLines.length > LAST_LINES) lastLines.shift()
      options.onLine(line, isError)
    })
  }
  listen(child.stdout, false)
  listen(child.stderr, true)
  const stop = () => stopProcess(child, gone)
  try {
    const addresses = await readyOf({ child, gone, options, lastLines })
    return { name: options.name, pid: child.pid ?? 0, addresses, gone, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

function spawnChild({ args, environment }: ChildOptions): ChildProcess {
  const main = process.argv[1]
  if (main === undefined)
    throw new CliError('CS_DEV_FAILED', 'the path of this program is not known')
  return spawn(process.execPath, [...process.execArgv, main, ...args], {
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    env: {
      ...environment,
      [READY_FD_VARIABLE]: String(READY_FD),
      [STOP_WITH_PARENT_VARIABLE]: '1',
    },
    // Ctrl-C reaches the whole group of a terminal; the children are to hear of it from us, in order.
    detached: true,
  })
}

function endOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message))
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code ?? 'unknown'}`))
  })
}

interface Starting {
  readonly child: ChildProcess
  readonly gone: Promise<string>
  readonly options: ChildOptions
  readonly lastLines: readonly string[]
}

async function readyOf({
  child,
  gone,
  options,
  lastLines,
}: Starting): Promise<Readonly<Record<string, unknown>>> {
  const deadline = AbortSignal.any([options.signal, AbortSignal.timeout(READY_TIMEOUT_MS)])
  const announced = once(createInterface({ input: child.stdio[READY_FD] as Readable }), 'line', {
    signal: deadline,
  })
  const failed = gone.then((how) => Promise.reject(new Error(how)))
  try {
    const [line] = (await Promise.race([announced, failed])) as [string]
    return JSON.parse(line) as Record<string, unknown>
  } catch (error) {
    if (options.signal.aborted) throw options.signal.reason
    const why = error instanceof Error ? error.message : 'unknown'
    const words = lastLines.map((line) => `\n  ${line}`).join('')
    throw new CliError('CS_DEV_FAILED', `${options.name} did not come up (${why})${words}`, {
      cause: error,
    })
  } finally {
    failed.catch(() => undefined)
    announced.catch(() => undefined)
  }
}

async function stopProcess(child: ChildProcess, gone: Promise<string>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  const force = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS)
  await gone
  clearTimeout(force)
}

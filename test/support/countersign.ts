import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'

const MAIN = resolve(import.meta.dirname, '../../dist/cli/main.js')
const READY_FD = 3
const READY_TIMEOUT_MS = 60_000

/** A component of the built product, running as a process of its own. */
export interface RunningProgram extends AsyncDisposable {
  readonly child: ChildProcess
  readonly pid: number
  /** What it announced: addresses by name. */
  readonly addresses: Readonly<Record<string, string>>
  /** Everything it has written so far, standard output and standard error apart. */
  readonly stdout: readonly string[]
  readonly stderr: readonly string[]
  /** Resolves with the first line on standard output, past or to come, that passes. */
  waitForLine(passes: (line: string) => boolean): Promise<string>
  kill(signal: NodeJS.Signals): Promise<void>
}

export interface Finished {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

interface StartOptions extends RunOptions {
  /** For a command that announces nothing. */
  readonly ready?: 'announced' | 'at once'
}

interface RunOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string
  readonly uid?: number
  readonly gid?: number
}

/** Runs a command of the built product to its end. */
export async function countersign(
  args: readonly string[],
  options: RunOptions = {},
): Promise<Finished> {
  const child = start(args, options, ['pipe', 'pipe', 'pipe'])
  child.stdin?.end(options.input ?? '')
  const [stdout, stderr, [code]] = await Promise.all([
    textOf(child.stdout),
    textOf(child.stderr),
    once(child, 'close'),
  ])
  return { code: code as number, stdout, stderr }
}

/** Starts a component of the built product and waits until it says that it is ready. */
export async function startProgram(
  args: readonly string[],
  options: StartOptions = {},
): Promise<RunningProgram> {
  const env = {
    ...options.env,
    COUNTERSIGN_READY_FD: String(READY_FD),
    COUNTERSIGN_STOP_WITH_PARENT: '1',
  }
  const child = start(args, { ...options, env }, ['pipe', 'pipe', 'pipe', 'pipe'])
  const gone = once(child, 'exit')
  const output = collect(child)
  const kill = async (signal: NodeJS.Signals) => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal)
    await gone
  }
  const dispose = () => kill('SIGTERM')
  if (options.ready === 'at once') {
    return {
      child,
      pid: child.pid!,
      addresses: {},
      ...output,
      kill,
      [Symbol.asyncDispose]: dispose,
    }
  }
  const announced = once(createInterface({ input: child.stdio[READY_FD] as Readable }), 'line', {
    signal: AbortSignal.timeout(READY_TIMEOUT_MS),
  })
  const failed = gone.then(() =>
    Promise.reject(new Error(`${args.join(' ')} ended:\n${output.stderr.join('\n')}`)),
  )
  failed.catch(() => undefined)
  try {
    const [line] = (await Promise.race([announced, failed])) as [string]
    const addresses = JSON.parse(line) as Record<string, string>
    return { child, pid: child.pid!, addresses, ...output, kill, [Symbol.asyncDispose]: dispose }
  } catch (error) {
    announced.catch(() => undefined)
    await kill('SIGKILL')
    throw error
  }
}

function start(args: readonly string[], options: RunOptions, stdio: 'pipe'[]): ChildProcess {
  if (!existsSync(MAIN)) throw new Error('the product is not built: run npm run build')
  const { uid, gid, env } = options
  return spawn(process.execPath, [MAIN, ...args], {
    stdio,
    env: { PATH: process.env.PATH, HOME: process.env.HOME, NO_COLOR: '1', ...env },
    ...(uid !== undefined && { uid }),
    ...(gid !== undefined && { gid }),
  })
}

function collect(child: ChildProcess) {
  const stdout: string[] = []
  const stderr: string[] = []
  const listeners = new Set<(line: string) => void>()
  createInterface({ input: child.stdout! }).on('line', (line) => {
    stdout.push(line)
    for (const listener of listeners) listener(line)
  })
  createInterface({ input: child.stderr! }).on('line', (line) => stderr.push(line))
  const waitForLine = (passes: (line: string) => boolean) =>
    new Promise<string>((resolve, reject) => {
      const held = stdout.find(passes)
      if (held !== undefined) return resolve(held)
      const listener = (line: string) => {
        if (!passes(line)) return
        listeners.delete(listener)
        resolve(line)
      }
      listeners.add(listener)
      child.once('exit', () =>
        reject(new Error(`ended before the line came:\n${stderr.join('\n')}`)),
      )
    })
  return { stdout, stderr, waitForLine }
}

async function textOf(stream: Readable | null): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of stream ?? []) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { chmodSync, copyFileSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

/** A process of its own that calls the agent and passes on what a test sends through its socket. */
export interface Relay extends AsyncDisposable {
  /** Of the process that runs now; another one after a handover. */
  readonly pid: number
  /** Where a client of the test reaches the agent as this process. */
  readonly path: string
  /** Sends a command and waits until it is carried out. */
  command(line: string): Promise<void>
  kill(): void
}

export interface RelayOptions {
  readonly agentPath: string
  readonly path: string
  readonly uid?: number
  readonly gid?: number
  /** A program made by {@link compiledRelay}; Node itself unless given. */
  readonly program?: string
}

const peers = new URL('./peers/', import.meta.url)

export const isRoot = process.getuid?.() === 0

/** Compiles the relay that can do everything; undefined where there is no C compiler. */
export function compiledRelay(path: string): string | undefined {
  try {
    execFileSync('cc', ['-O1', '-o', path, new URL('relay.c', peers).pathname], { stdio: 'pipe' })
    chmodSync(path, 0o755)
    return path
  } catch {
    return undefined
  }
}

/** Another binary that does the same. */
export function otherBinary(program: string): string {
  const path = `${program}-2`
  copyFileSync(program, path)
  chmodSync(path, 0o755)
  return path
}

/** Resolves when the process has connected to the agent. */
export async function startRelay(options: RelayOptions): Promise<Relay> {
  const child = options.program ? compiled(options, options.program) : interpreted(options)
  const words = answers(child)
  const closed = new Promise((resolve) => child.once('close', resolve))
  let pid = await words.next('ready')
  return {
    path: options.path,
    get pid() {
      return pid
    },
    async command(line) {
      child.stdin?.write(`${line}\n`)
      pid = await words.next(line.split(' ')[0] ?? '')
    },
    kill: () => end(pid),
    async [Symbol.asyncDispose]() {
      child.stdin?.end()
      // After a handover the child is gone, and the process that came of it is not ours to wait for.
      if (pid !== child.pid) end(pid)
      child.kill('SIGKILL')
      await closed
    },
  }
}

function compiled({ agentPath, path, uid, gid }: RelayOptions, program: string): ChildProcess {
  return spawn(program, [path, agentPath], {
    ...account(uid, gid),
    stdio: ['pipe', 'pipe', 'inherit'],
  })
}

function interpreted({ agentPath, path, uid, gid }: RelayOptions): ChildProcess {
  const source = readFileSync(new URL('relay.mjs', peers), 'utf8')
  return spawn(process.execPath, ['--input-type=module', '-e', source], {
    ...account(uid, gid),
    env: {
      ...process.env,
      NODE_OPTIONS: '',
      RELAY: JSON.stringify({ source, listen: path, agentPath }),
    },
    stdio: ['pipe', 'pipe', 'inherit'],
    cwd: '/',
  })
}

function account(uid?: number, gid = uid): { uid?: number; gid?: number } {
  return uid === undefined || gid === undefined ? {} : { uid, gid }
}

function answers(child: ChildProcess) {
  const lines = child.stdout
    ? createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    : undefined
  return {
    async next(word: string): Promise<number> {
      const line = await lines?.next()
      const [said, pid] = String(line?.value ?? '').split(' ')
      if (said !== word)
        throw new Error(`relay said ${line?.value ?? 'nothing'} instead of ${word}`)
      return Number(pid)
    },
  }
}

function end(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended already.
  }
}

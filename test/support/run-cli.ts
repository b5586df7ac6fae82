import { Readable, Writable } from 'node:stream'
import type { CliContext, ExitCode } from '../../cli/context.js'
import { runCli } from '../../cli/program.js'

export interface CliRunOptions {
  readonly stdin?: string | Uint8Array
  readonly environment?: Readonly<Record<string, string>>
  readonly now?: () => Date
  readonly colour?: boolean
  readonly signal?: AbortSignal
  /** Called with everything that standard output holds, whenever it grows. */
  readonly onOutput?: (text: string) => void
}

export interface CliRun {
  readonly exit: ExitCode
  readonly stdout: string
  readonly stderr: string
}

/** Runs a command line in this process, with streams and an environment of its own. */
export async function cliRun(
  args: readonly string[],
  options: CliRunOptions = {},
): Promise<CliRun> {
  const stdout = collector(options.onOutput)
  const stderr = collector()
  const context: CliContext = {
    stdin: Readable.from([Buffer.from(options.stdin ?? '')]),
    stdout: stdout.stream,
    stderr: stderr.stream,
    environment: options.environment ?? {},
    now: options.now ?? (() => new Date()),
    signal: options.signal ?? new AbortController().signal,
    colour: options.colour ?? false,
  }
  const exit = await runCli(args, context)
  return { exit, stdout: stdout.text(), stderr: stderr.text() }
}

function collector(onText: (text: string) => void = () => {}) {
  let text = ''
  const stream = new Writable({
    write(chunk, _encoding, done) {
      text += String(chunk)
      onText(text)
      done()
    },
  })
  return { stream, text: () => text }
}

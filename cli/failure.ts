import { type CliContext, type ExitCode, exitCode } from './context.js'
import { CliError } from './errors.js'
import { paint } from './output.js'
import { printable, printableLines } from './printable.js'
import { reasonFor } from './reasons.js'

/** What people are told of anything that was thrown, and the exit code that goes with it. */
export interface Failure {
  readonly code: string
  readonly message: string
  readonly hint: string | undefined
  readonly exit: ExitCode
}

/** Sorts an error by its code; an error without one is a fault of ours and says so. */
export function failureOf(error: unknown): Failure {
  const code = codeOf(error)
  const message = error instanceof Error ? error.message : String(error)
  if (code === undefined)
    return { code: 'CS_INTERNAL', message, hint: undefined, exit: exitCode.error }
  return { code, message, hint: reasonFor(code)?.todo, exit: exitOf(error, code) }
}

/** Prints a failure: a sentence, its code, what to do, where to read on; a stack only when asked for. */
export function printFailure(
  context: CliContext,
  error: unknown,
  options: { debug: boolean; json: boolean },
): ExitCode {
  const failure = failureOf(error)
  const { code, message, hint, exit } = failure
  if (options.json) {
    const line = JSON.stringify({ error: message, code, hint, exit })
    context.stderr.write(`${printable(line)}\n`)
    return exit
  }
  const { red, dim } = paint(context.colour)
  context.stderr.write(
    `${red('error:')} ${printableLines(message)}\n${dim('code:')}  ${printable(code)}\n`,
  )
  if (hint)
    context.stderr.write(
      `${dim('hint:')}  ${hint}\n${dim('docs:')}  docs/errors.md#${code.toLowerCase()}\n`,
    )
  if (options.debug && error instanceof Error)
    context.stderr.write(`${printableLines(error.stack ?? '')}\n`)
  return exit
}

function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string')
    return undefined
  return error.code.startsWith('CS_') ? error.code : undefined
}

const unavailable = new Set([
  'CS_SENTRY_UNREACHABLE',
  'CS_AGENT_UNREACHABLE',
  'CS_SENTRY_UNAVAILABLE',
  'CS_ENDPOINT_UNAVAILABLE',
  'CS_SOCKET_MISSING',
  'CS_SIDECAR_NOT_READY',
])
const notAuthorised = new Set(['CS_NO_IDENTITY', 'CS_SOCKET_DENIED', 'CS_PEER_NOT_AUTHORIZED'])

function exitOf(error: unknown, code: string): ExitCode {
  if (error instanceof CliError) return error.exit
  if (unavailable.has(code)) return exitCode.unavailable
  return notAuthorised.has(code) ? exitCode.notAuthorised : exitCode.error
}

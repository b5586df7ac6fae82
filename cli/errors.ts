import type { Reason } from '../spiffe/index.js'
import { type ExitCode, exitCode } from './context.js'

/** What the command line itself can refuse. */
export const cliReasons = {
  CS_USAGE: {
    severity: 'error',
    what: 'A command was called with words or options that it does not take.',
    todo: 'Run the command with --help.',
  },
  CS_CONFIG_INVALID: {
    severity: 'error',
    what: 'A setting has a value that it cannot have.',
    todo: 'Correct the value; docs/configuration.md lists what each setting takes.',
  },
  CS_CONFIG_UNKNOWN_KEY: {
    severity: 'error',
    what: 'A configuration file holds a key that does not exist.',
    todo: 'Correct the key; the message names the nearest one.',
  },
  CS_CONFIG_UNREADABLE: {
    severity: 'error',
    what: 'A configuration file cannot be read or is not YAML.',
    todo: 'Check the path, the permissions and, with the line in the message, the indentation.',
  },
  CS_SENTRY_UNREACHABLE: {
    severity: 'error',
    what: 'The sentry does not answer on its admin socket.',
    todo: 'Start the sentry, or name its socket with --sentry-socket or COUNTERSIGN_SENTRY_SOCKET.',
  },
  CS_AGENT_UNREACHABLE: {
    severity: 'error',
    what: 'The agent does not answer on its socket.',
    todo: 'Start the agent, or name its socket with --agent-socket or SPIFFE_ENDPOINT_SOCKET.',
  },
  CS_REQUEST_REFUSED: {
    severity: 'error',
    what: 'The sentry refused a request.',
    todo: 'The message says what was wrong with it.',
  },
  CS_NOT_FOUND: {
    severity: 'error',
    what: 'What a command names does not exist.',
    todo: 'List what there is with the list verb of the same noun.',
  },
  CS_CHECK_FAILED: {
    severity: 'error',
    what: 'A check found something wrong.',
    todo: 'Read what was printed above: each finding names its code, its cause or what to do.',
  },
  CS_DRAIN_INCOMPLETE: {
    severity: 'warning',
    what: 'A sidecar was told to stop and closed requests that had not ended in the time they were given.',
    todo: 'Give them longer with drain, or find out what they wait for.',
  },
  CS_DEV_FAILED: {
    severity: 'error',
    what: 'The demonstration did not come up or did not behave as it should.',
    todo: 'The lines before the error say which step failed; run it again with --log-level debug.',
  },
} as const satisfies Record<string, Reason>

export type CliErrorCode = keyof typeof cliReasons

/** A command that cannot do what it was asked. `code` is stable; `exit` is the exit code of the process. */
export class CliError extends Error {
  override readonly name = 'CliError'
  readonly code: CliErrorCode
  readonly exit: ExitCode

  constructor(code: CliErrorCode, message: string, options?: ErrorOptions & { exit?: ExitCode }) {
    super(message, options)
    this.code = code
    this.exit = options?.exit ?? (code === 'CS_USAGE' ? exitCode.usage : exitCode.error)
  }
}

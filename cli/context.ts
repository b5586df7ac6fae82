import type { Readable, Writable } from 'node:stream'

/** What a command may touch: where it reads and writes, and how it should speak. */
export interface CliContext {
  readonly stdin: Readable
  /** Answers, and nothing else. */
  readonly stdout: Writable
  /** Progress, warnings and errors. */
  readonly stderr: Writable
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly now: () => Date
  /** Ends when the user interrupts. */
  readonly signal: AbortSignal
  /** Whether standard output is a terminal that wants colour. */
  readonly colour: boolean
}

export type OutputFormat = 'table' | 'json'

/** Exit codes of the whole command line; see docs/cli.md. */
export const exitCode = {
  ok: 0,
  error: 1,
  usage: 2,
  findings: 3,
  warnings: 4,
  notAuthorised: 5,
  unavailable: 6,
  nothingToDo: 7,
} as const

export type ExitCode = (typeof exitCode)[keyof typeof exitCode]

import { spawnSync } from 'node:child_process'

/** Set by CI, where everything must be there: a missing tool is then a failure and not a skip. */
export const EVERYTHING = process.env.COUNTERSIGN_TEST_ALL === '1'

export interface Tool {
  /** Command that succeeds when the tool is there. */
  readonly probe: readonly [string, ...string[]]
  /** What to type on Debian. */
  readonly install: string
}

/** Whether tests that need these tools must be skipped; says so in one line. Throws in CI instead. */
export function missing(suite: string, ...tools: readonly Tool[]): boolean {
  const absent = tools.filter(
    ({ probe: [command, ...args] }) => spawnSync(command, args, { stdio: 'ignore' }).status !== 0,
  )
  if (absent.length === 0) return false
  const message = `${suite}: skipped, needs ${absent.map(({ probe, install }) => `${probe[0]} (${install})`).join(', ')}`
  if (EVERYTHING) throw new Error(message)
  process.stderr.write(`${message}\n`)
  return true
}

/** Like {@link missing} for suites that change user ids. */
export function notRoot(suite: string): boolean {
  if (process.getuid?.() === 0) return false
  if (EVERYTHING) throw new Error(`${suite}: must run as root`)
  process.stderr.write(`${suite}: skipped, needs root (sudo npm test)\n`)
  return true
}

export const go: Tool = { probe: ['go', 'version'], install: 'apt-get install golang-go' }
export const openssl: Tool = { probe: ['openssl', 'version'], install: 'apt-get install openssl' }
export const nginx: Tool = { probe: ['nginx', '-v'], install: 'apt-get install nginx' }
export const python: Tool = { probe: ['python3', '--version'], install: 'apt-get install python3' }

#!/usr/bin/env node
import { whenUnread } from './process.js'
import { runCli } from './program.js'

const stop = new AbortController()
let asked = 0
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    stop.abort(signal)
    // Whoever asks a third time wants out now, whatever is still open.
    asked += 1
    if (asked > 2) process.exit(1)
  })
}
// SIGHUP asks for a reload; configuration is read once, so there is nothing to do, and it is no reason to end.
process.on('SIGHUP', () => undefined)
const args = process.argv.slice(2)
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') return
  const next = whenUnread(args)
  if (next === 'exit') process.exit(0)
  if (next === 'stop') stop.abort('end of standard output')
})

process.exitCode = await runCli(args, {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  environment: process.env,
  now: () => new Date(),
  signal: stop.signal,
  colour: process.stdout.isTTY && process.env.NO_COLOR === undefined && process.env.TERM !== 'dumb',
})

// A pipe from whoever started this process would keep it alive.
process.stdin.destroy()

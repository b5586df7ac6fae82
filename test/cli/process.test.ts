import { closeSync, openSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import { announceReady, stopRequested, whenUnread } from '../../cli/process.js'

const quiet = { stdin: new PassThrough(), signal: new AbortController().signal }

test('a pipe for the announcement that is not there is no reason to end', async () => {
  const fd = openSync('/dev/null', 'r')
  closeSync(fd)
  // An error that nobody handles fails the run of this file.
  announceReady({ environment: { COUNTERSIGN_READY_FD: String(fd + 1000) } }, {})
  for (let turn = 0; turn < 20; turn += 1) await stat('/')
})

test.each([
  ['a component', ['sidecar', 'run', '--config', 'c.yaml'], 'go on'],
  ['a component after a flag', ['--debug', 'agent', 'run'], 'go on'],
  ['the demonstration, which has to clean up', ['dev', '--json'], 'stop'],
  ['an answer that nobody reads', ['entry', 'list'], 'exit'],
  ['help', ['--help'], 'exit'],
  ['nothing', [], 'exit'],
])('when nobody reads its output any more: %s', (_, args, wanted) => {
  expect(whenUnread(args)).toBe(wanted)
})

test('a process that must not outlive its parent stops with its standard input', async () => {
  const stdin = new PassThrough()
  const environment = { COUNTERSIGN_STOP_WITH_PARENT: '1' }
  const stopped = stopRequested({ ...quiet, environment, stdin })
  stdin.end('what a parent writes is not read')
  expect(await stopped).toBe('end of the parent process')
})

test('a process stops by a signal, also one that came before it asked', async () => {
  const signal = AbortSignal.abort('SIGTERM')
  expect(await stopRequested({ ...quiet, environment: {}, signal })).toBe('SIGTERM')
  const stop = new AbortController()
  const stopped = stopRequested({ ...quiet, environment: {}, signal: stop.signal })
  stop.abort('SIGINT')
  expect(await stopped).toBe('SIGINT')
})

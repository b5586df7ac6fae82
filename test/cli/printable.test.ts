import { Server, ServerCredentials, type ServiceDefinition, status } from '@grpc/grpc-js'
import { expect, test } from 'vitest'
import { columns, paint } from '../../cli/output.js'
import { printable, printableLines, printableText } from '../../cli/printable.js'
import { DiagnosisService } from '../../proto/gen/countersign/agent/v1/local.js'
import { AgentService } from '../../proto/gen/spire/api/server/agent/v1/agent.js'
import { Agent } from '../../proto/gen/spire/api/types/types.js'
import { cliRun } from '../support/run-cli.js'
import { tempFolder } from '../support/temp-folder.js'

/** Clears the screen, turns the line, says something in C1 controls, and adds a line of its own. */
const HOSTILE = '1.0\u001b[2J\u202e\u009b31m\nspiffe://td.example/forged\rx'
const RAW = /[^\n\P{Cc}]|[\u202e\u2028]/u

test.each([
  ['an escape', '\u001b[2J', '\\u001b[2J'],
  ['a C1 control', '\u009b2J', '\\u009b2J'],
  ['a line end', 'a\nb\r', 'a\\u000ab\\u000d'],
  ['a turn of direction', 'a\u202eb\u2066c\u061cd', 'a\\u202eb\\u2066c\\u061cd'],
  ['a line separator', 'a\u2028b', 'a\\u2028b'],
  ['half a character', 'a\ud800b', 'a\\ud800b'],
  ['nothing of the kind', 'naïve ✓ 👍 é', 'naïve ✓ 👍 é'],
])('text from a stranger with %s is harmless', (_, text, shown) => {
  expect(printable(text)).toBe(shown)
})

test('lines of our own stay lines', () => {
  expect(printableLines('a\u001b\nb')).toBe('a\\u001b\nb')
})

test('colours of our own stay colours where colours are wanted, and nothing else does', () => {
  const { green } = paint(true)
  expect(printableText(`${green('ok')}\n\u001b[2J\u001b[5m`, { colour: true })).toBe(
    `${green('ok')}\n\\u001b[2J\\u001b[5m`,
  )
  expect(printableText(green('ok'), { colour: false })).toBe('\\u001b[32mok\\u001b[39m')
})

test('a cell of a table is one line, whatever it holds', () => {
  expect(columns(['A', 'B'], [['1\n2', paint(true).red('x')]]).split('\n')).toHaveLength(2)
})

/** A server on a Unix socket that has the given answers and no others. */
async function serve(service: ServiceDefinition, path: string, handlers: object) {
  const server = new Server()
  server.addService(service, handlers as never)
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) =>
      error ? reject(error) : resolve(),
    ),
  )
  return { [Symbol.asyncDispose]: async () => server.forceShutdown() }
}

type Done = (error: object | null, answer?: object) => void

const hostileAgent = Agent.fromPartial({
  id: { trustDomain: 'td.example', path: '/agent' },
  attestationType: HOSTILE,
  agentVersion: HOSTILE,
  selectors: [{ type: 'x', value: HOSTILE }],
})

test.each([
  ['agent list', ['agent', 'list'], 2],
  ['agent show', ['agent', 'show', 'spiffe://td.example/agent'], 7],
  ['agent list as JSON', ['agent', 'list', '-o', 'json'], undefined],
])('what an agent said of itself cannot act on the terminal: %s', async (_, args, lines) => {
  await using dir = await tempFolder()
  await using _server = await serve(AgentService, dir.file('s'), {
    listAgents: (_call: unknown, done: Done) =>
      done(null, { agents: [hostileAgent], nextPageToken: '' }),
    getAgent: (_call: unknown, done: Done) => done(null, hostileAgent),
  })
  const { exit, stdout } = await cliRun([...args, '--sentry-socket', dir.file('s')])
  expect(exit).toBe(0)
  expect(stdout).not.toMatch(RAW)
  if (lines !== undefined) expect(stdout.trimEnd().split('\n')).toHaveLength(lines)
  else expect(JSON.parse(stdout)).toMatchObject({ agents: [{ agent_version: HOSTILE }] })
})

test.each([
  ['for people', []],
  ['as JSON', ['-o', 'json']],
])('an error from afar cannot act on the terminal: %s', async (_, args) => {
  await using dir = await tempFolder()
  await using _server = await serve(AgentService, dir.file('s'), {
    listAgents: (_call: unknown, done: Done) =>
      done({ code: status.PERMISSION_DENIED, details: 'no\u001b[2J\u009bx \u202e' }),
  })
  const run = await cliRun(['agent', 'list', '--sentry-socket', dir.file('s'), ...args])
  expect(run.exit).toBe(5)
  expect(run.stderr).toContain('no')
  expect(run.stderr).not.toMatch(RAW)
})

test('what a process is called cannot forge lines of an explanation', async () => {
  await using dir = await tempFolder()
  await using _server = await serve(DiagnosisService, dir.file('s'), {
    explainIdentity: (_call: unknown, done: Done) =>
      done(null, {
        pid: 7,
        code: '',
        explanation: HOSTILE,
        considered: 1,
        selectors: [{ type: 'unix', value: `path:${HOSTILE}` }],
        candidates: [
          {
            entryId: HOSTILE,
            spiffeId: HOSTILE,
            matches: false,
            selectors: [],
            missing: [{ type: 'unix', value: HOSTILE }],
            svidReady: false,
            svidExpiresAt: 0n,
          },
        ],
      }),
  })
  const { exit, stdout } = await cliRun(['explain', 'identity', '--agent-socket', dir.file('s')])
  expect(exit).toBe(0)
  expect(stdout).not.toMatch(RAW)
  expect(stdout.split('\n').filter((line) => line.startsWith('spiffe://'))).toEqual([])
})

import { describe, expect, test } from 'vitest'
import { cliRun } from '../support/run-cli.js'

const NOW = new Date('2026-11-20T12:00:00Z')

async function run(args: readonly string[], environment: Record<string, string> = {}) {
  const { exit: code, ...streams } = await cliRun(args, { environment, now: () => NOW })
  return { code, ...streams }
}

const verbs = [
  [],
  ['dev'],
  ['sentry'],
  ['sentry', 'run'],
  ['agent'],
  ['agent', 'run'],
  ['agent', 'list'],
  ['agent', 'show'],
  ['agent', 'ban'],
  ['agent', 'evict'],
  ['sidecar', 'run'],
  ['entry', 'create'],
  ['entry', 'list'],
  ['entry', 'show'],
  ['entry', 'delete'],
  ['token', 'generate'],
  ['bundle', 'show'],
  ['bundle', 'list'],
  ['bundle', 'set'],
  ['bundle', 'delete'],
  ['policy', 'apply'],
  ['policy', 'list'],
  ['policy', 'show'],
  ['policy', 'delete'],
  ['policy', 'explain'],
  ['policy', 'test'],
  ['policy', 'status'],
  ['api', 'fetch', 'x509'],
  ['api', 'fetch', 'jwt'],
  ['api', 'validate', 'jwt'],
  ['api', 'watch'],
  ['inspect'],
  ['explain', 'identity'],
  ['doctor'],
  ['check'],
]

describe('the command line', () => {
  test.each(verbs.map((verb) => [verb.join(' ') || '(nothing)', verb] as const))(
    '%s has help',
    async (_, verb) => {
      const { code, stdout, stderr } = await run([...verb, '--help'])
      expect(stdout).toContain(
        `Usage: countersign ${verb.join(' ')}`.replace('check', 'doctor|check').trimEnd(),
      )
      expect(stderr).toBe('')
      expect(code).toBe(0)
    },
  )

  test('ST-2: says its version, and which revision of the standards it follows', async () => {
    expect((await run(['--version'])).stdout).toMatch(
      /^\d+\.\d+\.\d+ \(SPIFFE standards [0-9a-f]{12} of \d{4}-\d\d-\d\d\)\n$/,
    )
  })

  test.each([
    ['a command that there is not', ['sentyr'], /unknown command 'sentyr'/],
    [
      'a verb that there is not',
      ['entry', 'crate'],
      /unknown command 'crate'[\s\S]*Did you mean create/,
    ],
    ['a flag that there is not', ['entry', 'list', '--fast'], /unknown option '--fast'/],
    ['a flag without its value', ['entry', 'create', '--spiffe-id'], /argument missing/],
    ['a flag that must be given', ['entry', 'create'], /required option/],
    [
      'an output that there is not',
      ['entry', 'list', '-o', 'xml'],
      /Allowed choices are table, json/,
    ],
  ])('exits 2 for %s', async (_, args, message) => {
    const { code, stderr, stdout } = await run(args)
    expect(stderr).toMatch(message)
    expect(stdout).toBe('')
    expect(code).toBe(2)
  })

  test.each([
    ['entry list', ['entry', 'list']],
    ['agent list', ['agent', 'list']],
    ['token generate', ['token', 'generate']],
    ['bundle show', ['bundle', 'show']],
  ])('exits 6 with a code when no sentry answers to %s', async (_, args) => {
    const { code, stderr } = await run([...args, '--sentry-socket', '/nonexistent.sock'])
    expect(stderr).toMatch(
      /^error: .*\ncode: {2}CS_SENTRY_UNREACHABLE\nhint: {2}.*\ndocs: {2}docs\/errors\.md#cs_sentry_unreachable\n$/,
    )
    expect(code).toBe(6)
  })

  test('reads the socket from the environment, and a flag counts more', async () => {
    const { code } = await run(['entry', 'list'], {
      COUNTERSIGN_SENTRY_SOCKET: '/nonexistent.sock',
    })
    expect(code).toBe(6)
  })

  test('exits 6 with a code when no agent answers', async () => {
    const { code, stderr } = await run(['explain', 'identity'], {
      SPIFFE_ENDPOINT_SOCKET: 'unix:///nonexistent.sock',
    })
    expect(stderr).toContain('CS_AGENT_UNREACHABLE')
    expect(stderr).toContain('/nonexistent.sock')
    expect(code).toBe(6)
  })

  test.each([
    ['percent-encoded', 'unix:///nonexistent%20folder/a.sock', 'CS_AGENT_UNREACHABLE', 6],
    ['none', '/nonexistent.sock', 'CS_SOCKET_INVALID', 1],
  ])(
    'reads the address of the agent as the standard writes it: %s',
    async (_, address, code, exit) => {
      const result = await run(['explain', 'identity'], { SPIFFE_ENDPOINT_SOCKET: address })
      expect(result.stderr).toContain(code)
      expect(result.stderr).not.toContain('%20')
      expect(result.code).toBe(exit)
    },
  )

  test('gives an error as JSON when JSON is wanted', async () => {
    const { stderr } = await run([
      'entry',
      'list',
      '-o',
      'json',
      '--sentry-socket',
      '/nonexistent.sock',
    ])
    expect(JSON.parse(stderr)).toMatchObject({
      code: 'CS_SENTRY_UNREACHABLE',
      exit: 6,
      hint: expect.any(String),
    })
  })

  test.each([
    [
      'a SPIFFE ID that is none',
      ['--spiffe-id', 'http://a/b', '--parent-id', 'spiffe://a/b', '--selector', 'a:b'],
      'CS_SPIFFE_ID_INVALID',
      1,
    ],
    [
      'a selector without a value',
      ['--spiffe-id', 'spiffe://a/b', '--parent-id', 'spiffe://a/b', '--selector', 'unix'],
      'CS_USAGE',
      2,
    ],
    [
      'a lifetime without a unit',
      [
        '--spiffe-id',
        'spiffe://a/b',
        '--parent-id',
        'spiffe://a/b',
        '--selector',
        'a:b',
        '--x509-ttl',
        '60',
      ],
      'CS_USAGE',
      2,
    ],
  ])('refuses an entry with %s before it asks anybody', async (_, args, code, exit) => {
    const result = await run(['entry', 'create', ...args, '--sentry-socket', '/nonexistent.sock'])
    expect(result.stderr).toContain(`code:  ${code}`)
    expect(result.code).toBe(exit)
  })

  test('doctor finds that nothing runs, names each finding, and exits 3', async () => {
    const { code, stdout } = await run([
      'doctor',
      '-o',
      'json',
      '--sentry-socket',
      '/nonexistent.s',
      '--agent-socket',
      '/nonexistent.a',
    ])
    const { schema, checks } = JSON.parse(stdout) as {
      schema: string
      checks: { code: string; severity: string }[]
    }
    expect(schema).toBe('countersign/checks/v1')
    expect(
      checks.filter(({ severity }) => severity === 'error').map((found) => found.code),
    ).toEqual(['CS_CHECK_SENTRY', 'CS_CHECK_AGENT'])
    expect(code).toBe(3)
  })
})

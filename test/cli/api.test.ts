import { createPrivateKey } from 'node:crypto'
import { mkdir, readFile, stat } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { certificatesFromPem, parseCertificate } from '../../spiffe/index.js'
import { testAuthority } from '../support/authority.js'
import { type FakeWorkloadApi, fakeWorkloadApi } from '../support/fake-workload-api.js'
import { cliRun } from '../support/run-cli.js'
import { tempFolder } from '../support/temp-folder.js'

const now = new Date('2026-11-20T12:00:00Z')
const authority = testAuthority('a.example', { now })
const federated = testAuthority('b.example', { now })

let api: FakeWorkloadApi
beforeEach(async () => {
  api = await fakeWorkloadApi({
    authority,
    federated: [federated],
    identities: [{ id: '/web' }, { id: '/api', hint: 'internal' }],
    now: () => now,
  })
})
afterEach(() => api[Symbol.asyncDispose]())

const run = (args: readonly string[], options: Parameters<typeof cliRun>[1] = {}) =>
  cliRun(args, { now: () => now, environment: { SPIFFE_ENDPOINT_SOCKET: api.address }, ...options })

describe('api fetch x509', () => {
  test('prints identities with what time they have left, and bundles', async () => {
    const { exit, stdout, stderr } = await run(['api', 'fetch', 'x509'])
    expect({ exit, stderr }).toEqual({ exit: 0, stderr: '' })
    expect(stdout).toMatch(/spiffe:\/\/a\.example\/web\s+-\s+in 60 min\s+[0-9a-f]+/)
    expect(stdout).toMatch(/spiffe:\/\/a\.example\/api\s+internal\s+in 60 min/)
    expect(stdout).toMatch(/b\.example\s+1\s+in 365 d/)
  })

  test('-o json names its schema and holds certificates but no key', async () => {
    const { exit, stdout } = await run(['api', 'fetch', 'x509', '-o', 'json'])
    expect(exit).toBe(0)
    const answer = JSON.parse(stdout)
    expect(answer).toMatchObject({
      schema: 'countersign/x509-svids/v1',
      svids: [
        { spiffe_id: 'spiffe://a.example/web', hint: null, expires_at: '2026-11-20T13:00:00.000Z' },
        { spiffe_id: 'spiffe://a.example/api', hint: 'internal' },
      ],
      bundles: [{ trust_domain: 'a.example' }, { trust_domain: 'b.example' }],
      crls: 0,
      files: [],
    })
    const [leaf] = certificatesFromPem(answer.svids[0].x509_svid)
    expect(leaf && parseCertificate(leaf).uriNames).toEqual(['spiffe://a.example/web'])
    expect(stdout).not.toContain('PRIVATE KEY')
  })

  test('--write makes files of which only the owner may read the keys', async () => {
    await using dir = await tempFolder()
    const folder = dir.file('svids')
    const { exit, stdout, stderr } = await run(['api', 'fetch', 'x509', '--write', folder])
    expect(exit).toBe(0)
    expect(stdout).not.toContain('PRIVATE KEY')
    expect(stderr).toContain(`wrote ${folder}/svid.0.key`)
    const modes = await Promise.all(
      [
        'svid.0.key',
        'svid.1.key',
        'svid.0.pem',
        'bundle.a.example.pem',
        'bundle.b.example.pem',
      ].map(async (name) => ((await stat(`${folder}/${name}`)).mode & 0o777).toString(8)),
    )
    expect(modes).toEqual(['600', '600', '644', '644', '644'])
    const key = createPrivateKey(await readFile(`${folder}/svid.0.key`))
    const [leaf] = certificatesFromPem(await readFile(`${folder}/svid.0.pem`, 'utf8'))
    const certificate = leaf && parseCertificate(leaf)
    expect(certificate?.publicKey.export({ format: 'jwk' })).toMatchObject(
      (({ x, y }) => ({ x, y }))(key.export({ format: 'jwk' })),
    )
    expect(
      certificatesFromPem(await readFile(`${folder}/bundle.b.example.pem`, 'utf8')),
    ).toHaveLength(1)
  })

  test('--write into a file says so and writes nothing', async () => {
    await using dir = await tempFolder()
    await mkdir(dir.file('svid.0.key'))
    const { exit, stderr } = await run(['api', 'fetch', 'x509', '--write', dir.path])
    expect(exit).toBe(1)
    expect(stderr).toContain('CS_FILE_UNWRITABLE')
  })

  test('--socket beats the environment and may be a path', async () => {
    const environment = { SPIFFE_ENDPOINT_SOCKET: 'unix:///nonexistent/a.sock' }
    for (const socket of [api.address, api.path]) {
      expect(
        await run(['api', 'fetch', 'x509', '--socket', socket], { environment }),
      ).toMatchObject({
        exit: 0,
      })
    }
  })
})

describe('what goes wrong has a code, a hint and an exit code', () => {
  test.each([
    ['no endpoint', ['--socket', 'unix:///nonexistent/a.sock'], 6, 'CS_SOCKET_MISSING'],
    ['an address that is none', ['--socket', 'http://127.0.0.1'], 1, 'CS_SOCKET_INVALID'],
    ['a duration that is none', ['--timeout', 'soon'], 2, 'takes a duration such as 10s'],
    ['an output that is none', ['-o', 'xml'], 2, 'Allowed choices are table, json'],
    ['an option that is none', ['--sokcet', 'x'], 2, 'unknown option'],
  ])('%s', async (_, args, exit, text) => {
    const answer = await run(['api', 'fetch', 'x509', ...args])
    expect(answer.exit).toBe(exit)
    expect(answer.stderr).toContain(text)
    expect(answer.stdout).toBe('')
  })

  test('no identity', async () => {
    api.withdraw()
    const { exit, stderr } = await run(['api', 'fetch', 'x509'])
    expect(exit).toBe(5)
    expect(stderr).toContain('no identity issued')
    expect(stderr).toContain('CS_NO_IDENTITY')
    expect(stderr).toContain('countersign explain identity')
  })

  test('no identity, as JSON', async () => {
    api.withdraw()
    const { exit, stdout, stderr } = await run([
      'api',
      'fetch',
      'jwt',
      '--audience',
      'x',
      '-o',
      'json',
    ])
    expect({ exit, stdout }).toEqual({ exit: 5, stdout: '' })
    expect(JSON.parse(stderr)).toMatchObject({ code: 'CS_NO_IDENTITY', exit: 5 })
  })

  test('an endpoint that does not answer in time', async () => {
    api.hang('fetchX509Svid', true)
    const { exit, stderr } = await run(['api', 'fetch', 'x509', '--timeout', '50ms'])
    expect(exit).toBe(6)
    expect(stderr).toContain('no answer within')
    expect(stderr).toContain('CS_ENDPOINT_UNAVAILABLE')
  })

  test('an interruption', async () => {
    api.hang('fetchX509Svid', true)
    const stop = new AbortController()
    const running = run(['api', 'fetch', 'x509'], { signal: stop.signal })
    await api.called('fetchX509Svid', 1)
    stop.abort('SIGINT')
    expect(await running).toMatchObject({ exit: 6, stdout: '' })
  })
})

describe('api fetch jwt', () => {
  test('prints the tokens alone, so that a script can take them', async () => {
    const { exit, stdout, stderr } = await run(['api', 'fetch', 'jwt', '--audience', 'ledger'])
    expect(exit).toBe(0)
    const tokens = stdout.trimEnd().split('\n')
    expect(tokens).toHaveLength(2)
    expect(tokens.every((token) => token.split('.').length === 3)).toBe(true)
    expect(stderr).toContain('spiffe://a.example/web for ledger, expires in 5 min')
  })

  test('asks for one identity and several audiences', async () => {
    const id = 'spiffe://a.example/api'
    const audiences = ['--audience', 'ledger', '--audience', 'bank']
    const { exit, stdout } = await run(
      ['api', 'fetch', 'jwt', '-o', 'json', '--spiffe-id', id].concat(audiences),
    )
    expect(exit).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({
      schema: 'countersign/jwt-svids/v1',
      svids: [{ spiffe_id: id, hint: 'internal', audience: ['ledger', 'bank'] }],
    })
  })

  test.each([
    ['without an audience', [], 2, "required option '--audience <audience>'"],
    ['with an empty one', ['--audience', ''], 1, 'CS_ENDPOINT_REFUSED'],
    [
      'for an id that is none',
      ['--audience', 'x', '--spiffe-id', 'web'],
      1,
      'CS_SPIFFE_ID_INVALID',
    ],
  ])('is refused %s', async (_, args, exit, text) => {
    const answer = await run(['api', 'fetch', 'jwt', ...args])
    expect(answer.exit).toBe(exit)
    expect(answer.stderr).toContain(text)
  })
})

describe('api validate jwt', () => {
  const token = authority.issueJwt({ id: '/web', audience: 'ledger', claims: { role: 'clerk' } })

  test('shows what the endpoint found in a token', async () => {
    const { exit, stdout } = await run([
      'api',
      'validate',
      'jwt',
      '--audience',
      'ledger',
      '--svid',
      token,
    ])
    expect(exit).toBe(0)
    expect(stdout).toMatch(/SPIFFE ID:\s+spiffe:\/\/a\.example\/web/)
    expect(stdout).toMatch(/expires:\s+in 5 min/)
    expect(stdout).toMatch(/role:\s+clerk/)
  })

  test('reads the token from standard input', async () => {
    const args = ['api', 'validate', 'jwt', '--audience', 'ledger', '--svid', '-', '-o', 'json']
    const { exit, stdout } = await run(args, { stdin: `${token}\n` })
    expect(exit).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({
      schema: 'countersign/validated-jwt-svid/v1',
      spiffe_id: 'spiffe://a.example/web',
      claims: { role: 'clerk' },
    })
  })

  test('says what is wrong with it and never repeats it', async () => {
    const args = ['api', 'validate', 'jwt', '--audience', 'bank', '--svid', token]
    const { exit, stdout, stderr } = await run(args)
    expect({ exit, stdout }).toEqual({ exit: 1, stdout: '' })
    expect(stderr).toContain('CS_JWT_SVID_INVALID')
    expect(stderr).not.toContain(token.slice(0, 30))
  })

  test('refuses more input than a token can have', async () => {
    const args = ['api', 'validate', 'jwt', '--audience', 'ledger', '--svid', '-']
    expect(await run(args, { stdin: 'x'.repeat(65_537) })).toMatchObject({ exit: 2 })
  })
})

describe('api watch', () => {
  test('prints each change and ends after as many as it was told', async () => {
    const running = run(['api', 'watch', '--count', '3'], {
      onOutput(text) {
        const lines = text.split('\n').length - 1
        if (lines === 1) api.rotate()
        if (lines === 2) api.withdraw()
      },
    })
    const { exit, stdout } = await running
    expect(exit).toBe(0)
    const [first, second, third] = stdout.split('\n')
    expect(first).toContain('spiffe://a.example/web')
    expect(first).toContain('bundles: a.example, b.example')
    expect(second).not.toBe(first)
    expect(third).toContain('withdrawn')
  })

  test('-o json prints one object per line', async () => {
    const { stdout } = await run(['api', 'watch', '--count', '2', '-o', 'json'], {
      onOutput: (text) => {
        if (text.split('\n').length === 2) api.rotate()
      },
    })
    const events = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(events).toHaveLength(2)
    expect(events[0]).toMatchObject({
      schema: 'countersign/x509-event/v1',
      event: 'updated',
      svids: [{ spiffe_id: 'spiffe://a.example/web' }, {}],
    })
    expect(stdout).not.toContain('PRIVATE KEY')
  })

  test('goes on until it is interrupted, and reports trouble apart from the answers', async () => {
    const stop = new AbortController()
    api.withdraw()
    const running = run(['api', 'watch'], { signal: stop.signal })
    await api.called('fetchX509Svid', 2)
    stop.abort('SIGINT')
    const { exit, stdout, stderr } = await running
    expect({ exit, stdout }).toEqual({ exit: 0, stdout: '' })
    expect(stderr).toContain('CS_NO_IDENTITY')
  })
})

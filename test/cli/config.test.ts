import { writeFile } from 'node:fs/promises'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AGENT_PREFIX, agentSettings } from '../../cli/config/agent-settings.js'
import { loadConfig } from '../../cli/config/load.js'
import { nearestName, parseDuration } from '../../cli/config/schema.js'
import {
  SENTRY_PREFIX,
  type SentrySettings,
  sentrySettings,
} from '../../cli/config/sentry-settings.js'
import {
  SIDECAR_PREFIX,
  type SidecarSettings,
  sidecarSettings,
} from '../../cli/config/sidecar-settings.js'
import { tempFolder } from '../support/temp-folder.js'

async function load(
  text: string,
  options: {
    flags?: object
    environment?: Record<string, string>
    component?: 'sentry' | 'sidecar' | 'agent'
  } = {},
) {
  await using dir = await tempFolder()
  await writeFile(dir.file('c.yaml'), text)
  const { schema, prefix } = {
    sentry: { schema: sentrySettings, prefix: SENTRY_PREFIX },
    agent: { schema: agentSettings, prefix: AGENT_PREFIX },
    sidecar: { schema: sidecarSettings, prefix: SIDECAR_PREFIX },
  }[options.component ?? 'sentry']
  return await loadConfig({
    schema,
    prefix,
    flags: { config: dir.file('c.yaml'), ...options.flags },
    context: { environment: options.environment ?? {} },
  })
}

describe('a configuration', () => {
  test('fills in what is not said', async () => {
    const read = (await load('trust_domain: prod.example\n')) as SentrySettings
    expect(read).toMatchObject({
      trust_domain: 'prod.example',
      listen: '0.0.0.0:8081',
      ttl: { x509_svid: 3_600_000, root: 365 * 86_400_000 },
      log_level: 'info',
    })
    expect(read.socket).toBeUndefined()
  })

  test('takes a flag over a variable over the file', async () => {
    const text = 'trust_domain: file.example\nlisten: 127.0.0.1:1\nttl:\n  x509_svid: 1h\n'
    const environment = {
      COUNTERSIGN_SENTRY_TRUST_DOMAIN: 'variable.example',
      COUNTERSIGN_SENTRY_TTL_X509_SVID: '15m',
    }
    const read = (await load(text, {
      environment,
      flags: { trustDomain: 'flag.example' },
    })) as SentrySettings
    expect([read.trust_domain, read.listen, read.ttl.x509_svid]).toEqual([
      'flag.example',
      '127.0.0.1:1',
      900_000,
    ])
  })

  test('reads groups in a flag or a variable', async () => {
    const outbound =
      '[{"listen":"127.0.0.1:9001","routes":[{"host":"orders","address":"127.0.0.1:1","expect":["spiffe://a/b"]}]}]'
    const read = (await load('', {
      component: 'sidecar',
      flags: {
        inbound: [
          'listen=127.0.0.1:0,app=127.0.0.1:8080',
          'listen=127.0.0.1:1,app=unix:/run/app.sock,protocol=tcp',
        ],
      },
      environment: { COUNTERSIGN_SIDECAR_OUTBOUND: outbound },
    })) as SidecarSettings
    expect(read.inbound).toEqual([
      { listen: '127.0.0.1:0', app: '127.0.0.1:8080', protocol: 'http1', unsafe_app: false },
      { listen: '127.0.0.1:1', app: 'unix:/run/app.sock', protocol: 'tcp', unsafe_app: false },
    ])
    expect(read.outbound[0]?.routes[0]).toEqual({
      host: 'orders',
      address: '127.0.0.1:1',
      expect: ['spiffe://a/b'],
    })
  })

  test.each([
    [
      'a mistyped key',
      'trust_domian: a\n',
      'CS_CONFIG_UNKNOWN_KEY',
      /c\.yaml:1: .*trust_domian; did you mean trust_domain\?/,
    ],
    [
      'a mistyped key in a group',
      'trust_domain: a\nttl:\n  x509svid: 1h\n',
      'CS_CONFIG_UNKNOWN_KEY',
      /c\.yaml:3: .*did you mean x509_svid\?/,
    ],
    [
      'a key far from any other',
      'qqqqqqqq: 1\n',
      'CS_CONFIG_UNKNOWN_KEY',
      /known here: trust_domain/,
    ],
    [
      'a number for a name',
      'trust_domain: 5\n',
      'CS_CONFIG_INVALID',
      /c\.yaml:1: trust_domain takes text, not 5/,
    ],
    [
      'a trust domain in capitals',
      'trust_domain: Prod\n',
      'CS_CONFIG_INVALID',
      /lowercase letters/,
    ],
    ['an address without a port', 'listen: localhost\n', 'CS_CONFIG_INVALID', /127\.0\.0\.1:8081/],
    [
      'a duration without a unit',
      'ttl: {x509_svid: 60}\n',
      'CS_CONFIG_INVALID',
      /takes a duration/,
    ],
    [
      'a duration that is too short',
      'ttl: {x509_svid: 1s}\n',
      'CS_CONFIG_INVALID',
      /is at least 5s/,
    ],
    [
      'a choice that there is not',
      'log_level: loud\n',
      'CS_CONFIG_INVALID',
      /takes one of debug, info/,
    ],
    [
      'a list where a group belongs',
      'ttl: [1]\n',
      'CS_CONFIG_INVALID',
      /takes a group of settings/,
    ],
    [
      'a key twice',
      'listen: "127.0.0.1:1"\nlisten: "127.0.0.1:2"\n',
      'CS_CONFIG_UNREADABLE',
      /c\.yaml:2: /,
    ],
    [
      'a key without a value, which would pass for the default',
      'trust_domain: a\nseal:\n  key_file:\n',
      'CS_CONFIG_INVALID',
      /c\.yaml:3: seal\.key_file takes text, not null/,
    ],
    [
      'a group without a value',
      'seal:\n',
      'CS_CONFIG_INVALID',
      /takes a group of settings, not null/,
    ],
    ['text that is not YAML', 'a: [\n', 'CS_CONFIG_UNREADABLE', /c\.yaml:\d+: /],
    ['only a word', 'hello\n', 'CS_CONFIG_UNREADABLE', /must hold settings/],
  ])('is refused for %s', async (_, text, code, message) => {
    await expect(load(text)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })

  test('never repeats a secret', async () => {
    const reading = load('join_token: 123456789\n', { component: 'agent' })
    await expect(reading).rejects.toMatchObject({
      code: 'CS_CONFIG_INVALID',
      message: expect.stringMatching(/c\.yaml:1: join_token takes text, not what was given$/),
    })
  })

  test('names the variable or the flag that is wrong', async () => {
    await expect(
      load('', { environment: { COUNTERSIGN_SENTRY_LISTEN: 'x' } }),
    ).rejects.toMatchObject({
      message: expect.stringContaining('COUNTERSIGN_SENTRY_LISTEN: listen takes an address'),
    })
    await expect(load('', { flags: { ttlX509Svid: 'x' } })).rejects.toMatchObject({
      message: expect.stringContaining('--ttl-x509-svid: ttl.x509_svid takes a duration'),
    })
  })

  test('that is not there is refused by name', async () => {
    const reading = loadConfig({
      schema: sentrySettings,
      prefix: SENTRY_PREFIX,
      flags: { config: '/nonexistent.yaml' },
      context: { environment: {} },
    })
    await expect(reading).rejects.toMatchObject({
      code: 'CS_CONFIG_UNREADABLE',
      message: expect.stringContaining('/nonexistent.yaml'),
    })
  })

  test('never gives anything but settings or a coded refusal, whatever a file holds', async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.string(), fc.json()), async (text) => {
        await load(text).catch((error: { code?: string }) =>
          expect(error.code).toMatch(/^CS_CONFIG_/),
        )
      }),
      { numRuns: 200 },
    )
  })
})

describe('durations', () => {
  test.each([
    ['90s', 90_000],
    ['1h30m', 5_400_000],
    ['7d', 604_800_000],
    ['250ms', 250],
    ['', undefined],
    ['1', undefined],
    ['1.5h', undefined],
    ['-1s', undefined],
    ['1 h', undefined],
    ['99999999999999999d', undefined],
  ])('%j is %j ms', (text, ms) => {
    expect(parseDuration(text)).toBe(ms)
  })
})

describe('the nearest name', () => {
  test.each([
    ['trust-domain', 'trust_domain'],
    ['Listen', 'listen'],
    ['lisetn', 'listen'],
    ['zzzzzz', undefined],
  ])('to %s is %s', (wrong, meant) => {
    expect(nearestName(wrong, ['trust_domain', 'listen', 'data_dir'])).toBe(meant)
  })
})

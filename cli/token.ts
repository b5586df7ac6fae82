import type { Command } from 'commander'
import { AgentClient } from '../proto/gen/spire/api/server/agent/v1/agent.js'
import { parseDuration } from './config/schema.js'
import type { CliContext, OutputFormat } from './context.js'
import { CliError } from './errors.js'
import { print, relativeTime } from './output.js'
import { ask, sentryClient, withSentry } from './sentry-client.js'
import { isoTime, wireId } from './spire-types.js'

interface TokenFlags {
  readonly sentrySocket?: string
  readonly output: OutputFormat
  readonly ttl: string
  readonly spiffeId?: string
}

/** `countersign token generate`: a join token for one agent. */
export function registerToken(program: Command, context: CliContext): void {
  const noun = program
    .command('token')
    .description('join tokens, with which an agent attests for the first time')
  withSentry(
    noun
      .command('generate')
      .description('make a join token; it works once')
      .option('--ttl <duration>', 'how long it may be used', '10m')
      .option(
        '--spiffe-id <id>',
        'further SPIFFE ID for the agent, to be used as a parent of entries',
      ),
  ).action((flags: TokenFlags) => generate(flags, context))
}

async function generate(flags: TokenFlags, context: CliContext): Promise<void> {
  const ms = parseDuration(flags.ttl)
  if (ms === undefined || ms < 1000)
    throw new CliError('CS_USAGE', `--ttl takes a duration such as 10m, not ${flags.ttl}`)
  const token = await ask(sentryClient(AgentClient, flags.sentrySocket), 'createJoinToken', {
    request: {
      ttl: Math.floor(ms / 1000),
      token: '',
      agentId: flags.spiffeId === undefined ? undefined : wireId(flags.spiffeId),
    },
    context,
  })
  print(context, {
    format: flags.output,
    kind: 'join-token',
    value: { token: token.value, expires_at: isoTime(token.expiresAt) },
    table: () => token.value,
  })
  if (flags.output === 'table') {
    const until = relativeTime(Number(token.expiresAt) * 1000, context.now())
    context.stderr.write(
      `works once and expires ${until}; start the agent with --join-token-file\n`,
    )
  }
}

import { type Command, InvalidArgumentError } from 'commander'
import { parseWorkloadId } from '../spiffe/index.js'
import { askEndpoint, type EndpointFlags, withEndpoint, withSocket } from './api/endpoint.js'
import { jwtSvidsJson, validatedText, x509ContextJson, x509ContextText } from './api/views.js'
import { type WatchFlags, watchIdentity } from './api/watch.js'
import { writeX509Files } from './api/x509-files.js'
import type { CliContext } from './context.js'
import { print, relativeTime } from './output.js'
import { readInput } from './read-input.js'
import { outputOption } from './sentry-client.js'

interface FetchX509Flags extends EndpointFlags {
  readonly write?: string
}

interface FetchJwtFlags extends EndpointFlags {
  readonly audience: readonly string[]
  readonly spiffeId?: string
}

interface ValidateJwtFlags extends EndpointFlags {
  readonly audience: string
  readonly svid: string
}

const MAX_TOKEN_BYTES = 64 * 1024

/** `countersign api`: a client of any SPIFFE Workload API, ours or another. */
export function registerApi(program: Command, context: CliContext): void {
  const noun = program.command('api').description('a client of any SPIFFE Workload API')
  const fetch = noun.command('fetch').description('fetch what this process is granted')
  withEndpoint(fetch.command('x509'))
    .description('fetch X.509-SVIDs and trust bundles')
    .option('--write <folder>', 'write certificates, bundles and keys there; keys are not sealed')
    .action((flags: FetchX509Flags) => fetchX509(flags, context))
  withEndpoint(fetch.command('jwt'))
    .description('fetch JWT-SVIDs')
    .requiredOption('--audience <audience>', 'whom the token is for; may be repeated', collect)
    .option('--spiffe-id <id>', 'ask for one of the identities (default: all of them)')
    .action((flags: FetchJwtFlags) => fetchJwt(flags, context))
  const validate = noun.command('validate').description('have something validated')
  withEndpoint(validate.command('jwt'))
    .description('have the endpoint validate a JWT-SVID')
    .requiredOption('--audience <audience>', 'the audience that the token must be for')
    .requiredOption('--svid <token>', 'the token, or - to read it from standard input')
    .action((flags: ValidateJwtFlags) => validateJwt(flags, context))
  withSocket(noun.command('watch'))
    .description('print every change of identity and bundles until interrupted')
    .option('--count <number>', 'end after so many changes', wholeNumber)
    .addOption(outputOption())
    .action((flags: WatchFlags) => watchIdentity(flags, context))
}

async function fetchX509(flags: FetchX509Flags, context: CliContext): Promise<void> {
  const found = await askEndpoint(flags, context, (client, signal) =>
    client.fetchX509Context(signal),
  )
  const files = flags.write === undefined ? [] : await writeX509Files(found, flags.write)
  print(context, {
    format: flags.output,
    kind: 'x509-svids',
    value: { ...x509ContextJson(found), files },
    table: () => x509ContextText(found, context.now()),
  })
  if (flags.output === 'table') {
    for (const file of files) context.stderr.write(`wrote ${file}\n`)
  }
}

async function fetchJwt(flags: FetchJwtFlags, context: CliContext): Promise<void> {
  const { audience, spiffeId } = flags
  const wanted = spiffeId === undefined ? {} : { id: parseWorkloadId(spiffeId) }
  const tokens = await askEndpoint(flags, context, (client, signal) =>
    client.fetchJwtSvids({ audience, ...wanted, signal }),
  )
  print(context, {
    format: flags.output,
    kind: 'jwt-svids',
    value: jwtSvidsJson(tokens),
    table: () => tokens.map(({ token }) => token).join('\n'),
  })
  if (flags.output === 'json') return
  for (const { id, expiresAt } of tokens) {
    const ends = relativeTime(expiresAt, context.now())
    context.stderr.write(`${id} for ${audience.join(', ')}, expires ${ends}\n`)
  }
}

async function validateJwt(flags: ValidateJwtFlags, context: CliContext): Promise<void> {
  const { audience } = flags
  const token = flags.svid === '-' ? await tokenFromInput(context) : flags.svid
  const validated = await askEndpoint(flags, context, (client, signal) =>
    client.validateJwtSvid({ audience, token, signal }),
  )
  print(context, {
    format: flags.output,
    kind: 'validated-jwt-svid',
    value: { spiffe_id: validated.id, claims: validated.claims },
    table: () => validatedText(validated, context.now()),
  })
}

/** Keeps the token out of the list of processes. */
async function tokenFromInput(context: CliContext): Promise<string> {
  return (await readInput(context, MAX_TOKEN_BYTES)).toString('utf8').trim()
}

function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value]
}

function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('takes a number from 1.')
  return Number(text)
}

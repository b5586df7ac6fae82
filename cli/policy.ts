import { type Command, InvalidArgumentError, Option } from 'commander'
import { layouts, type UnauthenticatedDetail } from '../policies/index.js'
import type { CliContext, OutputFormat } from './context.js'
import { print } from './output.js'
import { type SentryFlags, statusNow, withPolicyAdmin } from './policy/admin.js'
import { type ApplyFlags, applyPolicies, timeoutOf } from './policy/apply.js'
import { type ExplainFlags, explainPolicy } from './policy/explain.js'
import { statusJson, statusTable, targetStatuses, waitUntilLive } from './policy/live.js'
import {
  type DeleteFlags,
  deletePolicies,
  type ListFlags,
  listPolicies,
  type ShowFlags,
  showPolicy,
} from './policy/stored.js'
import { type TestFlags, testPolicies } from './policy/test.js'
import { outputOption, withSentry } from './sentry-client.js'

/** `countersign policy apply|list|show|delete|explain|test|status`: who may call what. */
export function registerPolicy(program: Command, context: CliContext): void {
  const noun = program.command('policy').description('access policies: who may call what')
  registerApply(noun, context)
  registerStored(noun, context)
  registerExplain(noun, context)
  registerTest(noun, context)
  registerStatus(noun, context)
}

function registerApply(noun: Command, context: CliContext): void {
  withSentry(
    noun
      .command('apply')
      .description('store policies; all of them or, if one is refused, none')
      .addOption(fileOption().makeOptionMandatory())
      .option('--dry-run', 'say what would change and store nothing')
      .option('--wait', 'wait until every connected proxy enforces it')
      .option('--timeout <duration>', 'how long to wait', '60s'),
  ).action((flags: ApplyFlags) => applyPolicies(flags, context))
}

function registerStored(noun: Command, context: CliContext): void {
  withSentry(
    noun
      .command('list')
      .description('list policies')
      .addOption(kindOption())
      .option('--namespace <namespace>', 'only policies of this namespace'),
  ).action((flags: ListFlags) => listPolicies(flags, context))
  withSentry(
    noun
      .command('show <name>')
      .description('show a policy, <namespace>/<name> or <name>, as it can be applied again')
      .addOption(kindOption()),
  ).action((name: string, flags: ShowFlags) => showPolicy(name, flags, context))
  withSentry(
    noun
      .command('delete <names...>')
      .description('delete policies')
      .addOption(kindOption())
      .option('--yes', 'do not ask'),
  ).action((names: string[], flags: DeleteFlags) => deletePolicies(names, flags, context))
}

const details = [
  'no-certificate',
  'no-identity-yet',
  'not-spiffe',
  'multiple-uri-san',
  'svid-expired',
  'unknown-trust-domain',
  'chain-invalid',
] as const satisfies readonly UnauthenticatedDetail[]

function registerExplain(noun: Command, context: CliContext): void {
  withSentry(
    noun
      .command('explain')
      .description('why a call is allowed or denied, and what would change the answer')
      .requiredOption(
        '--from <caller>',
        'a SPIFFE ID, <namespace>/<app>, <app> of the same namespace, or unauthenticated',
      )
      .requiredOption('--to <app>', 'a SPIFFE ID, <namespace>/<app> or <app>')
      .option('--method <method>', 'HTTP method (default: GET)')
      .option('--path <path>', 'request path, as it is sent')
      .option('--grpc <method>', 'gRPC method, package.Service/Method')
      .option('--tcp', 'a raw connection')
      .option('--port <port>', 'port of the app (default: the first that its policies name)', port)
      .addOption(
        new Option('--because <detail>', 'why the caller is unauthenticated').choices(details),
      )
      .addOption(fileOption('ask files instead of the sentry'))
      .addOption(trustDomainOption())
      .addOption(layoutOption()),
  ).action((flags: ExplainFlags) => explainPolicy(flags, context))
}

function registerTest(noun: Command, context: CliContext): void {
  noun
    .command('test')
    .description('hold the PolicyTests in files against the policies in them')
    .addOption(fileOption().makeOptionMandatory())
    .addOption(trustDomainOption())
    .addOption(layoutOption())
    .addOption(outputOption())
    .action((flags: TestFlags) => testPolicies(flags, context))
}

interface StatusFlags extends SentryFlags {
  readonly output: OutputFormat
  readonly wait?: boolean
  readonly timeout: string
}

function registerStatus(noun: Command, context: CliContext): void {
  withSentry(
    noun
      .command('status')
      .description('which proxy enforces which snapshot')
      .option('--wait', 'wait until every connected proxy enforces the latest')
      .option('--timeout <duration>', 'how long to wait', '60s'),
  ).action(async (flags: StatusFlags) => {
    const timeoutMs = timeoutOf(flags.timeout)
    const statuses = await withPolicyAdmin({ flags, context }, async (admin) =>
      flags.wait
        ? waitUntilLive(admin, { targets: undefined, timeoutMs })
        : targetStatuses(await statusNow(admin)),
    )
    print(context, {
      format: flags.output,
      kind: 'policy-status',
      value: statusJson(statuses),
      table: () => statusTable(statuses, context),
    })
  })
}

function fileOption(description = 'a file, a folder, or - for standard input'): Option {
  return new Option('-f, --file <path>', `${description} (repeatable)`).argParser(append)
}

const append = (value: string, before: readonly string[] | undefined) => [...(before ?? []), value]

const kindOption = () =>
  new Option('--kind <kind>', 'only policies of this kind').choices([
    'AccessPolicy',
    'Guardrail',
    'PolicyTest',
  ])

const trustDomainOption = () =>
  new Option('--trust-domain <name>', 'the local trust domain, when asking files')

const layoutOption = () =>
  new Option('--layout <layout>', 'how SPIFFE IDs name apps, when asking files')
    .choices(layouts)
    .default('kubernetes')

function port(text: string): number {
  const value = Number(text)
  if (/^\d{1,5}$/.test(text) && value >= 1 && value <= 65_535) return value
  throw new InvalidArgumentError('takes a port from 1 to 65535')
}

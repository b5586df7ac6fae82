import { type Command, Option } from 'commander'
import { agentSocket, agentSocketOption } from '../agent-client.js'
import type { CliContext, OutputFormat } from '../context.js'
import { exitCode } from '../context.js'
import { CliError } from '../errors.js'
import { paint, print } from '../output.js'
import { printable } from '../printable.js'
import { withSentry } from '../sentry-client.js'
import { type Finding, findingReasons } from './check.js'
import { checkAgent, checkNode, checkSentry } from './checks.js'

interface DoctorFlags {
  readonly sentrySocket?: string
  readonly agentSocket?: string
  readonly output: OutputFormat
  readonly only: 'all' | 'sentry' | 'agent'
  readonly strict?: boolean
}

/** `countersign doctor` (also `check`): is all well on this machine? */
export function registerDoctor(program: Command, context: CliContext): void {
  const command = program
    .command('doctor')
    .alias('check')
    .description('check the sentry and the agent on this machine; exits 3 when something is wrong')
    .addOption(
      new Option('--only <part>', 'check one part')
        .choices(['all', 'sentry', 'agent'])
        .default('all'),
    )
    .option('--strict', 'exit 4 when there are warnings')
  withSentry(command)
    .addOption(agentSocketOption())
    .action((flags: DoctorFlags) => doctor(flags, context))
}

async function doctor(flags: DoctorFlags, context: CliContext): Promise<void> {
  const findings = [
    checkNode(process.versions.node),
    ...(flags.only === 'agent' ? [] : await checkSentry(flags.sentrySocket, context)),
    ...(flags.only === 'sentry'
      ? []
      : await checkAgent(agentSocket(flags.agentSocket, context), context)),
  ]
  print(context, {
    format: flags.output,
    kind: 'checks',
    value: { checks: findings.map((finding) => ({ ...finding, severity: severityOf(finding) })) },
    table: () => findings.map((finding) => line(finding, context)).join('\n'),
  })
  const severities = findings.filter(({ passed }) => !passed).map(severityOf)
  if (severities.includes('error'))
    throw new CliError('CS_CHECK_FAILED', 'something is wrong', { exit: exitCode.findings })
  if (flags.strict && severities.includes('warning')) {
    throw new CliError('CS_CHECK_FAILED', 'there are warnings', { exit: exitCode.warnings })
  }
}

const severityOf = ({ code, passed }: Finding) => (passed ? 'ok' : findingReasons[code].severity)

function line(finding: Finding, context: CliContext): string {
  const { green, red, yellow, dim } = paint(context.colour)
  const { severity, todo } = findingReasons[finding.code]
  const text = printable(finding.text)
  if (finding.passed) return `${green('ok')}       ${text}`
  const mark =
    severity === 'error' ? red('error') : severity === 'warning' ? yellow('warning') : dim('note')
  return `${mark}${' '.repeat(9 - severity.replace('info', 'note').length)}${text}\n         ${dim(`${finding.code}: ${todo}`)}`
}

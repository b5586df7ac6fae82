import { type Command, Option } from 'commander'
import type { Certificate, TrustBundle } from '../spiffe/index.js'
import type { CliContext, OutputFormat } from './context.js'
import { exitCode } from './context.js'
import { CliError } from './errors.js'
import { inspectBundle } from './inspect/bundles.js'
import { inspectCertificates } from './inspect/certificates.js'
import type { Finding, Inspection } from './inspect/inspection.js'
import { inspectKey } from './inspect/keys.js'
import type { Recognised } from './inspect/recognise.js'
import { openSource, readBundle } from './inspect/sources.js'
import { inspectToken } from './inspect/tokens.js'
import { paint, print } from './output.js'
import { printable, printableLines } from './printable.js'

interface InspectFlags {
  readonly bundle?: string
  readonly strict?: boolean
  readonly output: OutputFormat
}

/** `countersign inspect`: what a certificate, token, bundle, key or socket is and says. */
export function registerInspect(program: Command, context: CliContext): void {
  program
    .command('inspect')
    .description('show what a certificate, token, bundle, key or socket is')
    .argument('<what...>', 'files, - for standard input, or the address of a socket')
    .option('--bundle <file>', 'verify against this bundle, in JSON or PEM')
    .option('--strict', 'fail on warnings too')
    // The option of the other commands comes with gRPC, which takes longer to load than inspecting.
    .addOption(
      new Option('-o, --output <format>', 'how to print the answer')
        .choices(['table', 'json'])
        .default('table'),
    )
    .action((what: readonly string[], flags: InspectFlags) => inspect(what, flags, context))
}

async function inspect(
  what: readonly string[],
  flags: InspectFlags,
  context: CliContext,
): Promise<void> {
  const bundle = flags.bundle === undefined ? undefined : await readBundle(flags.bundle)
  const sources = await Promise.all(what.map((target) => openSource(target, context)))
  // A key is judged by the certificates that were given with it, in whatever order.
  const certificates = sources.flatMap(({ items }) => items).flatMap(certificatesIn)
  const inspected = sources.flatMap((source) => [
    ...source.inspections.map((inspection) => ({ source: source.name, inspection })),
    ...source.items.map((item) => ({
      source: source.name,
      inspection: inspectItem(item, {
        certificates,
        bundle,
        mode: source.mode,
        now: context.now(),
      }),
    })),
  ])
  print(context, {
    format: flags.output,
    kind: 'inspection',
    value: { items: inspected.map(({ source, inspection }) => itemJson(source, inspection)) },
    table: () => inspected.map((each) => inspectionText(each, context)).join('\n\n'),
  })
  failOnFindings(
    inspected.flatMap(({ inspection }) => inspection.findings),
    flags.strict ?? false,
  )
}

const certificatesIn = (item: Recognised): readonly Certificate[] =>
  item.kind === 'x509' ? item.certificates : []

interface Surroundings {
  readonly certificates: readonly Certificate[]
  readonly bundle: TrustBundle | undefined
  readonly mode: number | undefined
  readonly now: Date
}

function inspectItem(item: Recognised, surroundings: Surroundings): Inspection {
  switch (item.kind) {
    case 'x509':
      return inspectCertificates(item.certificates, { ...surroundings, encoding: item.encoding })
    case 'jwt':
      return inspectToken(item.token, surroundings)
    case 'bundle':
      return inspectBundle(item, surroundings.now)
    case 'key':
      return inspectKey(item, surroundings)
  }
}

function itemJson(source: string, { kind, json, findings }: Inspection) {
  return { source, kind, ...json, findings }
}

interface Inspected {
  readonly source: string
  readonly inspection: Inspection
}

function inspectionText({ source, inspection }: Inspected, { colour }: CliContext): string {
  const { text, findings } = inspection
  const { red, yellow, bold, dim } = paint(colour)
  const [heading = '', ...lines] = printableLines(text).split('\n')
  const marks = findings.map(({ severity, code, message }) =>
    severity === 'error'
      ? `${red('error:')}   ${printable(message)} (${code})`
      : `${yellow('warning:')} ${printable(message)} (${code})`,
  )
  const title = `${bold(heading)}  ${dim(printable(source))}`
  return [title, ...lines, ...(marks.length > 0 ? ['', ...marks] : [])].join('\n')
}

function failOnFindings(findings: readonly Finding[], strict: boolean): void {
  const errors = findings.filter(({ severity }) => severity === 'error')
  if (errors.length > 0) throw failure(`inspection found ${counted(errors, 'error')}`, 'findings')
  if (!strict || findings.length === 0) return
  throw failure(`inspection found ${counted(findings, 'warning')}`, 'warnings')
}

const counted = ({ length }: readonly Finding[], what: string) =>
  length === 1 ? `one ${what}` : `${length} ${what}s`

const failure = (message: string, exit: 'findings' | 'warnings') =>
  new CliError('CS_CHECK_FAILED', message, { exit: exitCode[exit] })

import {
  appOfId,
  type CaseResult,
  type Layout,
  type PolicyDocument,
  type RuleCoverage,
  ruleOf,
  runTests,
  type TestCall,
  type TestRun,
} from '../../policies/index.js'
import {
  parseTrustDomain,
  type SpiffeId,
  type TrustDomain,
  trustDomainOf,
} from '../../spiffe/index.js'
import { type CliContext, exitCode, type OutputFormat } from '../context.js'
import { CliError } from '../errors.js'
import { columns, paint, print } from '../output.js'
import { printable } from '../printable.js'
import { countText } from './document-text.js'
import { readDocuments } from './read-documents.js'

export interface TestFlags {
  readonly output: OutputFormat
  readonly file: readonly string[]
  readonly trustDomain?: string
  readonly layout: Layout
}

/** `countersign policy test`: the cases of all PolicyTests in the files against all policies in them. */
export async function testPolicies(flags: TestFlags, context: CliContext): Promise<void> {
  const { documents } = await readDocuments(flags.file, context)
  const { layout } = flags
  const trustDomain = trustDomainFor(documents, flags)
  const run = runTests({ trustDomain, layout, documents, now: context.now().getTime() })
  print(context, {
    format: flags.output,
    kind: 'policy-test',
    value: runJson(run),
    table: () => runText(run, context),
  })
  if (run.results.length === 0) {
    throw new CliError('CS_NOT_FOUND', 'there is no PolicyTest in the files', {
      exit: exitCode.nothingToDo,
    })
  }
  if (run.failed > 0) {
    const message = `${run.failed} of ${countText(run.results.length, 'case')} failed`
    throw new CliError('CS_CHECK_FAILED', message, { exit: exitCode.findings })
  }
}

/** The one that the callers in the cases are of, unless it is named. */
function trustDomainFor(
  documents: readonly PolicyDocument[],
  { trustDomain, layout }: TestFlags,
): TrustDomain {
  if (trustDomain !== undefined) return parseTrustDomain(trustDomain)
  const callers = documents.flatMap((document) =>
    document.kind === 'PolicyTest' ? document.cases.map(({ from }) => from) : [],
  )
  const named = callers.filter((caller): caller is SpiffeId => caller !== 'unauthenticated')
  const apps = named.filter((caller) => appOfId(layout, caller) !== undefined)
  const [first, ...more] = new Set((apps.length > 0 ? apps : named).map(trustDomainOf))
  if (first !== undefined && more.length === 0) return first
  if (callers.length === 0) return parseTrustDomain('example.test')
  throw new CliError(
    'CS_USAGE',
    'the cases do not tell which trust domain is local; name it with --trust-domain',
  )
}

function runJson({ results, coverage, failed }: TestRun): Readonly<Record<string, unknown>> {
  return {
    passed: results.length - failed,
    failed,
    cases: results.map(({ test, number, expected, answers, failure }) => ({
      test,
      case: number,
      from: expected.from,
      to: { app: expected.app, ...expected.call },
      expect: expected.expect,
      rule: expected.rule,
      passed: failure === undefined,
      failure,
      answers: answers.map(({ port, decision }) => ({
        port,
        decision: decision.effect,
        reason: decision.reason,
        rule: ruleOf(decision),
      })),
    })),
    coverage,
  }
}

function runText({ results, coverage, failed }: TestRun, context: CliContext): string {
  const { green, red } = paint(context.colour)
  const rows = results.map((result) => [
    result.failure === undefined ? green('ok') : red('failed'),
    `${result.test} ${result.number}`,
    `${result.expected.from} → ${result.expected.app}`,
    callText(result.expected.call),
    verdictText(result),
  ])
  const covered = coverage.filter(({ matched }) => matched > 0).length
  return [
    columns(['', 'CASE', 'FROM → TO', 'CALL', 'ANSWER'], rows),
    '',
    columns(['RULE', 'CASES', 'DECIDES'], coverage.map(coverageRow)),
    '',
    `${countText(results.length - failed, 'case')} passed, ${failed} failed; ${covered} of ${countText(coverage.length, 'rule')} covered`,
  ].join('\n')
}

function callText(call: TestCall): string {
  switch (call.kind) {
    case 'http':
      return `${call.method} ${printable(call.path)}`
    case 'grpc':
      return call.method
    case 'tcp':
      return 'tcp'
  }
}

function verdictText({ failure, answers }: CaseResult): string {
  if (failure !== undefined) return failure
  const said = answers.map(
    ({ decision }) => `${decision.effect} ${ruleOf(decision) ?? decision.reason}`,
  )
  return [...new Set(said)].join(', ')
}

const coverageRow = ({ document, rule, matched, decided }: RuleCoverage) => [
  `${document}/${rule}`,
  String(matched),
  String(decided),
]

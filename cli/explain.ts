import { type Command, InvalidArgumentError, Option } from 'commander'
import type {
  ExplainIdentityResponse,
  ExplainIdentityResponse_Candidate,
} from '../proto/gen/countersign/agent/v1/local.js'
import type { Selector } from '../proto/gen/spire/api/types/types.js'
import { agentDiagnosis, agentSocket, withAgent } from './agent-client.js'
import type { CliContext, OutputFormat } from './context.js'
import { exitCode } from './context.js'
import { CliError } from './errors.js'
import { paint, print, relativeTime } from './output.js'
import { printable } from './printable.js'
import { isoTime, selectorText } from './spire-types.js'

interface ExplainFlags {
  readonly agentSocket?: string
  readonly output: OutputFormat
  readonly pid: number
}

/** `countersign explain identity`: why a process does or does not get an identity. */
export function registerExplain(program: Command, context: CliContext): void {
  const noun = program.command('explain').description('why something is as it is')
  withAgent(
    noun
      .command('identity')
      .description(
        'why a process does or does not get an identity: selectors seen, entries considered, the nearest miss',
      )
      .addOption(
        new Option(
          '--pid <pid>',
          "a process on this machine; needs the agent's admin socket, see --agent-socket",
        )
          .argParser(wholeNumber)
          .default(0, 'this process'),
      ),
  ).action((flags: ExplainFlags) => explainIdentity(flags, context))
}

function wholeNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('takes a process id')
  return Number(text)
}

async function explainIdentity(flags: ExplainFlags, context: CliContext): Promise<void> {
  const diagnosis = agentDiagnosis(agentSocket(flags.agentSocket, context))
  try {
    const answer = await diagnosis.explainIdentity(flags.pid)
    print(context, {
      format: flags.output,
      kind: 'identity-explanation',
      value: explanationJson(answer),
      table: () => explanationText(answer, context),
    })
    if (answer.code !== '')
      throw new CliError('CS_CHECK_FAILED', 'the process gets no identity', {
        exit: exitCode.findings,
      })
  } finally {
    diagnosis.close()
  }
}

function explanationJson(answer: ExplainIdentityResponse): Readonly<Record<string, unknown>> {
  return {
    pid: answer.pid,
    code: answer.code || null,
    explanation: answer.explanation,
    selectors: answer.selectors.map(selectorText),
    considered: answer.considered,
    candidates: answer.candidates.map((candidate) => ({
      entry_id: candidate.entryId,
      spiffe_id: candidate.spiffeId,
      matches: candidate.matches,
      selectors: candidate.selectors.map(selectorText),
      missing: candidate.missing.map(selectorText),
      svid_ready: candidate.svidReady,
      svid_expires_at: isoTime(candidate.svidExpiresAt),
    })),
  }
}

function explanationText(answer: ExplainIdentityResponse, context: CliContext): string {
  const { bold, green, red } = paint(context.colour)
  const explanation = printable(answer.explanation)
  const verdict =
    answer.code === '' ? green(explanation) : red(`${explanation} (${printable(answer.code)})`)
  const lines = [`process ${answer.pid}: ${verdict}`, '', bold('selectors seen')]
  lines.push(...answer.selectors.map((selector) => `  ${selectorLine(selector)}`))
  lines.push('', bold(`entries considered: ${answer.considered}`))
  lines.push(...answer.candidates.flatMap((candidate) => candidateLines(candidate, context)))
  return lines.join('\n')
}

function candidateLines(
  candidate: ExplainIdentityResponse_Candidate,
  context: CliContext,
): string[] {
  const { green, red } = paint(context.colour)
  const head = `  ${candidate.matches ? green('match') : red('miss ')}  ${printable(`${candidate.spiffeId}  (entry ${candidate.entryId})`)}`
  if (candidate.matches) {
    const svid = candidate.svidReady
      ? `SVID expires ${relativeTime(Number(candidate.svidExpiresAt) * 1000, context.now())}`
      : 'no SVID in hand yet'
    return [head, `         ${svid}`]
  }
  return [head, `         differs in ${candidate.missing.map(selectorLine).join(', ')}`]
}

/** Whoever runs a process chooses the path of its program, line ends included. */
const selectorLine = (selector: Selector) => printable(selectorText(selector))

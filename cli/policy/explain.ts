import {
  type Candidate,
  type CompiledPolicy,
  compiledFor,
  compileSnapshot,
  decisionReasons,
  type Explanation,
  explain,
  type Layout,
  type Question,
  readSnapshot,
  ruleOf,
  type TestCall,
  type UnauthenticatedDetail,
} from '../../policies/index.js'
import {
  parseSpiffeId,
  parseTrustDomain,
  parseWorkloadId,
  type SpiffeId,
  trustDomainOf,
} from '../../spiffe/index.js'
import type { CliContext, OutputFormat } from '../context.js'
import { CliError } from '../errors.js'
import { columns, paint, print } from '../output.js'
import { printable } from '../printable.js'
import { ask } from '../sentry-client.js'
import { type SentryFlags, statusNow, withPolicyAdmin } from './admin.js'
import { countText, yamlOf } from './document-text.js'
import { idNamed, isId, targetNamed } from './names.js'
import { readDocuments } from './read-documents.js'

export interface ExplainFlags extends SentryFlags {
  readonly output: OutputFormat
  readonly from: string
  readonly to: string
  readonly because?: UnauthenticatedDetail
  readonly method?: string
  readonly path?: string
  readonly grpc?: string
  readonly tcp?: boolean
  readonly port?: number
  readonly file?: readonly string[]
  readonly trustDomain?: string
  readonly layout: Layout
}

/** `countersign policy explain`: why a call is or would be allowed or denied. */
export async function explainPolicy(flags: ExplainFlags, context: CliContext): Promise<void> {
  const call = callOf(flags)
  const policy = flags.file ? await fromFiles(flags, context) : await fromSentry(flags, context)
  const explanation = explain(policy, {
    caller: callerOf(flags, policy),
    ...(flags.because === undefined ? {} : { unauthenticatedBecause: flags.because }),
    call,
    port: flags.port,
    now: context.now().getTime(),
  } satisfies Question)
  print(context, {
    format: flags.output,
    kind: 'policy-explanation',
    value: explanationJson(explanation, policy),
    table: () => explanationText(explanation, context),
  })
}

function callOf({ method, path, grpc, tcp }: ExplainFlags): TestCall {
  const kinds = [method ?? path, grpc, tcp].filter((part) => part !== undefined)
  if (kinds.length !== 1) {
    throw new CliError('CS_USAGE', 'name one call: --method and --path, or --grpc, or --tcp')
  }
  if (tcp) return { kind: 'tcp' }
  if (grpc !== undefined) return { kind: 'grpc', method: grpc.replace(/^\//, '') }
  if (path === undefined) throw new CliError('CS_USAGE', '--method needs --path')
  return { kind: 'http', method: method ?? 'GET', path }
}

/** What the files say, without asking anybody. */
async function fromFiles(flags: ExplainFlags, context: CliContext): Promise<CompiledPolicy> {
  const { documents } = await readDocuments(flags.file ?? [], context)
  const { layout } = flags
  const trustDomain = trustDomainFor(flags)
  const target = idNamed(flags.to, { trustDomain, layout, namespace: undefined })
  return compiledFor(target, { trustDomain, layout, documents })
}

function trustDomainFor({ trustDomain, to, from }: ExplainFlags) {
  if (trustDomain !== undefined) return parseTrustDomain(trustDomain)
  const id = [to, from].find(isId)
  if (id !== undefined) return trustDomainOf(parseWorkloadId(id))
  throw new CliError(
    'CS_USAGE',
    'with files, --trust-domain or a whole SPIFFE ID in --to is needed',
  )
}

/** The snapshot that the sentry hands out for the target, exactly as its proxies get it. */
function fromSentry(flags: ExplainFlags, context: CliContext): Promise<CompiledPolicy> {
  return withPolicyAdmin({ flags, context }, async (admin) => {
    const { targets } = await statusNow(admin)
    const target = targetNamed(
      flags.to,
      targets.map((one) => parseSpiffeId(one.target)),
    )
    const { content } = await ask(admin.client, 'getSnapshot', { request: { target }, context })
    return compileSnapshot(readSnapshot(content))
  })
}

function callerOf({ from }: ExplainFlags, { snapshot }: CompiledPolicy): SpiffeId | undefined {
  if (from === 'unauthenticated') return undefined
  const { app, layout } = snapshot.app
  return idNamed(from, { trustDomain: snapshot.trustDomain, layout, namespace: app?.namespace })
}

function explanationJson(
  explanation: Explanation,
  { id, generation }: CompiledPolicy,
): Readonly<Record<string, unknown>> {
  const { target, caller, port, canonical, decision, cause, layers, candidates } = explanation
  const { nearest, suggestion } = explanation
  return {
    decision: decision.effect,
    reason: decision.reason,
    cause,
    rule: ruleOf(decision) ?? null,
    shadow: decision.shadow ?? null,
    from: caller ?? 'unauthenticated',
    to: target,
    port: port ?? null,
    call: canonical,
    snapshot_id: id,
    generation,
    layers,
    candidates,
    nearest: nearest ?? null,
    suggestion: suggestion ? (JSON.parse(suggestion.json) as unknown) : null,
  }
}

/** More rules than these do not help a reader; JSON has all of them. */
const MAX_SHOWN = 12

function explanationText(explanation: Explanation, context: CliContext): string {
  const { decision, caller, target, port, candidates, suggestion } = explanation
  const { green, red, bold, dim } = paint(context.colour)
  const verdict = decision.effect === 'allow' ? green('allowed') : red('denied')
  const rule = ruleOf(decision)
  const shown = candidates.slice(0, MAX_SHOWN)
  const rest = candidates.length - shown.length
  return [
    `${bold(verdict)}: ${explanation.cause}${rule === undefined ? '' : ` ${rule}`}`,
    `  from  ${caller ?? 'unauthenticated'}`,
    `  to    ${target}${port === undefined ? '' : ` port ${port}`}`,
    `  call  ${callText(explanation)}`,
    '',
    whyText(explanation),
    ...shadowLines(explanation),
    '',
    ...explanation.layers.map(({ name, rules, matching }) =>
      dim(`${name.padEnd(9)} ${countText(rules, 'rule')}, ${matching} match`),
    ),
    ...(shown.length === 0 ? [] : ['', candidateTable(shown, context)]),
    ...(rest > 0 ? [dim(`and ${rest} more; -o json lists them all`)] : []),
    ...(suggestion === undefined
      ? []
      : ['', 'the smallest policy that would allow it:', '', yamlOf(suggestion.json)]),
  ].join('\n')
}

function callText({ canonical }: Explanation): string {
  if ('malformed' in canonical) return `malformed: ${canonical.malformed}`
  return canonical.kind === 'tcp'
    ? 'a raw connection'
    : `${canonical.method} ${printable(canonical.path)}`
}

function whyText({ decision, cause, nearest, caller }: Explanation): string {
  switch (cause) {
    case 'other-trust-domain':
      return `No rule names ${caller && trustDomainOf(caller)}; ${nearest?.rule} names the same workload in another trust domain.`
    case 'no-identity-yet':
      return 'The caller has no identity yet: find out with countersign explain identity why.'
    case 'svid-expired':
      return 'The certificate of the caller has expired: compare clocks, and find out why it was not renewed.'
    case 'no-rule':
      return nearest === undefined
        ? decisionReasons['no-rule'].what
        : `${decisionReasons['no-rule'].what} The nearest is ${nearest.rule}: ${failedText(nearest)}.`
    default: {
      const { what, todo } = decisionReasons[decision.reason]
      return decision.effect === 'allow' ? what : `${what} ${todo}`
    }
  }
}

function shadowLines({ decision: { shadow } }: Explanation): readonly string[] {
  if (shadow?.direction === undefined) return []
  const verdict = shadow.effect === 'allow' ? 'allowed' : 'denied'
  return [
    `With the shadow rules enforced it would be ${verdict}, by ${shadow.policy}/${shadow.rule}.`,
  ]
}

function candidateTable(candidates: readonly Candidate[], context: CliContext): string {
  const { green, dim } = paint(context.colour)
  const rows = candidates.map(({ class: layer, rule, shadow, failed }) => [
    failed === undefined ? green('match') : dim('miss'),
    `${layer}${shadow ? ' (shadow)' : ''}`,
    rule,
    failedText({ failed }),
  ])
  return columns(['', 'LAYER', 'RULE', 'FIRST CONDITION THAT FAILS'], rows)
}

function failedText({ failed }: Pick<Candidate, 'failed'>): string {
  if (failed === undefined) return ''
  const { name, wanted, found } = failed
  return `${name}: wants ${cut(wanted)}, found ${printable(found) || 'nothing'}`
}

const cut = (text: string) => (text.length > 100 ? `${text.slice(0, 100)}…` : text || 'nothing')

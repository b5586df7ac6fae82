import { documentToJson } from '../../policies/index.js'
import type { ApplyResponse, DocumentRef } from '../../proto/gen/countersign/policy/v1/policy.js'
import { parseDuration } from '../config/schema.js'
import type { CliContext, OutputFormat } from '../context.js'
import { CliError } from '../errors.js'
import { columns, print } from '../output.js'
import { ask } from '../sentry-client.js'
import { type SentryFlags, withPolicyAdmin } from './admin.js'
import { countText } from './document-text.js'
import { type TargetStatus, waitUntilLive } from './live.js'
import { readDocuments } from './read-documents.js'

export interface ApplyFlags extends SentryFlags {
  readonly file: readonly string[]
  readonly output: OutputFormat
  readonly dryRun?: boolean
  readonly wait?: boolean
  readonly timeout: string
}

/** `countersign policy apply`. */
export async function applyPolicies(flags: ApplyFlags, context: CliContext): Promise<void> {
  const timeoutMs = timeoutOf(flags.timeout)
  const { documents, source } = await readDocuments(flags.file, context)
  const text = documents.map(documentToJson).join('\n---\n')
  await withPolicyAdmin({ flags, context }, async (admin) => {
    const dryRun = flags.dryRun ?? false
    const answer = await ask(admin.client, 'apply', { request: { text, source, dryRun }, context })
    const live =
      flags.wait && !dryRun
        ? await waitUntilLive(admin, { targets: changedTargets(answer), timeoutMs })
        : undefined
    print(context, {
      format: flags.output,
      kind: 'policies-applied',
      value: answerJson(answer, { dryRun, live: live !== undefined }),
      table: () => answerText(answer, { dryRun, live }),
    })
  })
}

export function timeoutOf(text: string): number {
  const ms = parseDuration(text)
  if (ms !== undefined && ms > 0) return ms
  throw new CliError('CS_USAGE', `--timeout takes a duration such as 60s, not ${text}`)
}

/** Documents that were there already may still be on their way, so then all targets count. */
function changedTargets(answer: ApplyResponse): ReadonlySet<string> | undefined {
  return answer.changedTargets.size === 0 ? undefined : new Set(answer.changedTargets.keys())
}

/** `shop/orders`, or the bare name of a guardrail. */
export const refText = (ref: DocumentRef | undefined) =>
  ref?.namespace ? `${ref.namespace}/${ref.name}` : (ref?.name ?? '')

function answerJson(
  { outcomes, sequence, changedTargets: changed }: ApplyResponse,
  { dryRun, live }: { readonly dryRun: boolean; readonly live: boolean },
): Readonly<Record<string, unknown>> {
  return {
    dry_run: dryRun,
    live,
    sequence,
    documents: outcomes.map(({ ref, change, revision }) => ({ ...ref, change, revision })),
    changed_targets: [...changed].map(([target, id]) => ({ target, snapshot_id: id })),
  }
}

function answerText(
  { outcomes, changedTargets: changed }: ApplyResponse,
  {
    dryRun,
    live,
  }: { readonly dryRun: boolean; readonly live: readonly TargetStatus[] | undefined },
): string {
  const rows = outcomes.map(({ ref, change, revision }) => [
    dryRun && change !== 'unchanged' ? `would be ${change}` : change,
    ref?.kind ?? '',
    refText(ref),
    `revision ${revision}`,
  ])
  const targets = [...changed].map(([target, id]) => `  ${target}  ${id.slice(0, 12)}`)
  const what = dryRun ? 'would get a new snapshot' : 'got a new snapshot'
  return [
    columns(rows[0] ?? [], rows.slice(1)),
    `${countText(changed.size, 'app')} ${what}${changed.size > 0 ? ':' : ''}`,
    ...targets,
    ...nextLines({ dryRun, live }),
  ].join('\n')
}

function nextLines({
  dryRun,
  live,
}: {
  readonly dryRun: boolean
  readonly live: readonly TargetStatus[] | undefined
}): readonly string[] {
  if (dryRun) return ['nothing was stored; leave out --dry-run to do it']
  if (live === undefined)
    return ['countersign policy status --wait says when it is live everywhere']
  const proxies = live.reduce((sum, { current }) => sum + current.length, 0)
  return [
    proxies === 0
      ? 'live; no proxy is connected for these apps'
      : `live at ${proxies === 1 ? '1 proxy' : `${proxies} proxies`}`,
  ]
}

import { createInterface } from 'node:readline/promises'
import { documentFromJson } from '../../policies/index.js'
import type { DocumentRef, StoredDocument } from '../../proto/gen/countersign/policy/v1/policy.js'
import { type CliContext, exitCode, type OutputFormat } from '../context.js'
import { CliError } from '../errors.js'
import { columns, print, relativeTime } from '../output.js'
import { ask } from '../sentry-client.js'
import { type PolicyAdmin, type SentryFlags, withPolicyAdmin } from './admin.js'
import { refText } from './apply.js'
import { contentText, countText, targetText, yamlOf } from './document-text.js'

export interface ListFlags extends SentryFlags {
  readonly output: OutputFormat
  readonly kind?: string
  readonly namespace?: string
}

/** `countersign policy list`. */
export async function listPolicies(flags: ListFlags, context: CliContext): Promise<void> {
  const request = { kind: flags.kind ?? '', namespace: flags.namespace ?? '', name: '' }
  const documents = await withPolicyAdmin({ flags, context }, async (admin) =>
    (await ask(admin.client, 'list', { request, context })).documents.sort(byName),
  )
  print(context, {
    format: flags.output,
    kind: 'policies',
    value: { documents: documents.map(storedJson) },
    table: () => listTable(documents, context),
  })
}

const byName = (left: StoredDocument, right: StoredDocument) =>
  keyOf(left.ref) < keyOf(right.ref) ? -1 : 1
const keyOf = (ref: DocumentRef | undefined) => `${ref?.kind} ${refText(ref)}`

function listTable(documents: readonly StoredDocument[], context: CliContext): string {
  if (documents.length === 0) return 'no policies; countersign policy apply stores one'
  const rows = documents.map(({ ref, json, revision, updatedAt }) => {
    const document = documentFromJson(json)
    return [
      document.kind,
      refText(ref),
      targetText(document),
      contentText(document),
      String(revision),
      relativeTime(Number(updatedAt) * 1000, context.now()),
    ]
  })
  return columns(['KIND', 'NAME', 'TARGET', 'CONTENT', 'REVISION', 'CHANGED'], rows)
}

function storedJson({ ref, json, revision, updatedAt }: StoredDocument) {
  return {
    kind: ref?.kind,
    namespace: ref?.namespace || undefined,
    name: ref?.name,
    revision,
    updated_at: new Date(Number(updatedAt) * 1000).toISOString(),
    document: JSON.parse(json) as unknown,
  }
}

export interface ShowFlags extends SentryFlags {
  readonly output: OutputFormat
  readonly kind?: string
}

/** `countersign policy show`: YAML that `policy apply` takes back. */
export async function showPolicy(
  name: string,
  flags: ShowFlags,
  context: CliContext,
): Promise<void> {
  const found = await withPolicyAdmin({ flags, context }, (admin) =>
    findOne(admin, { name, ...flags }),
  )
  print(context, {
    format: flags.output,
    kind: 'policy',
    value: storedJson(found),
    table: () => yamlOf(found.json),
  })
}

export interface DeleteFlags extends ShowFlags {
  readonly yes?: boolean
}

/** `countersign policy delete`. */
export async function deletePolicies(
  names: readonly string[],
  flags: DeleteFlags,
  context: CliContext,
): Promise<void> {
  await withPolicyAdmin({ flags, context }, async (admin) => {
    const found: StoredDocument[] = []
    for (const name of names) found.push(await findOne(admin, { name, ...flags }))
    await confirm(found, flags, context)
    const refs = found.map(({ ref }) => ref).filter((ref) => ref !== undefined)
    const { changedTargets } = await ask(admin.client, 'delete', { request: { refs }, context })
    print(context, {
      format: flags.output,
      kind: 'policies-deleted',
      value: {
        documents: refs,
        changed_targets: [...changedTargets].map(([target, id]) => ({ target, snapshot_id: id })),
      },
      table: () =>
        [
          ...refs.map((ref) => `deleted ${ref.kind} ${refText(ref)}`),
          `${countText(changedTargets.size, 'app')} got a new snapshot`,
        ].join('\n'),
    })
  })
}

/** Says what goes, and goes on only with `--yes` or a yes at the terminal. */
async function confirm(
  documents: readonly StoredDocument[],
  { yes }: DeleteFlags,
  { stdin, stderr }: CliContext,
): Promise<void> {
  if (yes) return
  for (const { json } of documents) {
    const document = documentFromJson(json)
    stderr.write(
      `${document.kind} ${document.name}: ${contentText(document)} for ${targetText(document)}\n`,
    )
  }
  stderr.write(
    'calls that only these rules allow will be denied, and what only these rules deny may be allowed\n',
  )
  if (!('isTTY' in stdin) || stdin.isTTY !== true) {
    throw new CliError('CS_USAGE', 'policy delete needs --yes when nobody can be asked')
  }
  const terminal = createInterface({ input: stdin, output: stderr })
  const answer = await terminal.question('delete? [y/N] ').finally(() => terminal.close())
  if (!/^y(es)?$/i.test(answer.trim())) {
    throw new CliError('CS_USAGE', 'nothing was deleted', { exit: exitCode.nothingToDo })
  }
}

/** The one document of a name, which may leave out what goes without saying. */
async function findOne(
  { client, context }: PolicyAdmin,
  { name, kind }: { readonly name: string; readonly kind?: string },
): Promise<StoredDocument> {
  const [last = '', namespace = ''] = name.split('/').toReversed()
  const request = { kind: kind ?? '', namespace, name: last }
  const { documents } = await ask(client, 'list', { request, context })
  const [first, ...more] = documents
  if (first === undefined) throw new CliError('CS_NOT_FOUND', `there is no policy ${name}`)
  if (more.length === 0) return first
  const names = documents.map(({ ref }) => keyOf(ref)).join(', ')
  throw new CliError(
    'CS_USAGE',
    `${name} is one of ${names}; say which by --kind and <namespace>/<name>`,
  )
}

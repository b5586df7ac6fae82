import { type Command, Option } from 'commander'
import {
  type BatchCreateEntryResponse_Result,
  EntryClient,
} from '../proto/gen/spire/api/server/entry/v1/entry.js'
import { Entry, Entry_AdditionalAttributes } from '../proto/gen/spire/api/types/types.js'
import { parseDuration } from './config/schema.js'
import type { CliContext, OutputFormat } from './context.js'
import { exitCode } from './context.js'
import { CliError } from './errors.js'
import { columns, fields, print, relativeTime } from './output.js'
import { ask, sentryClient, withSentry } from './sentry-client.js'
import { entryJson, idText, isoTime, selectorText, wireId, wireSelector } from './spire-types.js'

const PAGE_SIZE = 500
const ALREADY_EXISTS = 6

interface EntryFlags {
  readonly sentrySocket?: string
  readonly output: OutputFormat
}

interface CreateFlags extends EntryFlags {
  readonly spiffeId: string
  readonly parentId: string
  readonly selector: readonly string[]
  readonly x509Ttl?: string
  readonly jwtTtl?: string
  readonly dnsName?: readonly string[]
  readonly federatesWith?: readonly string[]
  readonly admin?: boolean
  readonly downstream?: boolean
  readonly hint?: string
  readonly expiresIn?: string
}

/** `countersign entry create|list|show|delete`: who gets which SPIFFE ID. */
export function registerEntry(program: Command, context: CliContext): void {
  const noun = program
    .command('entry')
    .description('registration entries: who gets which SPIFFE ID')
  registerCreate(noun, context)
  registerList(noun, context)
  withSentry(noun.command('show <id>').description('show one entry')).action(
    async (id: string, flags: EntryFlags) => {
      const entry = await ask(entryClient(flags), 'getEntry', {
        request: { id, outputMask: undefined },
        context,
      })
      print(context, {
        format: flags.output,
        kind: 'entry',
        value: entryJson(entry),
        table: () => entryTable(entry, context),
      })
    },
  )
  withSentry(
    noun
      .command('delete <ids...>')
      .description('delete entries; their workloads lose the identity at once'),
  ).action((ids: string[], flags: EntryFlags) => deleteEntries(ids, flags, context))
}

function registerCreate(noun: Command, context: CliContext): void {
  withSentry(
    noun
      .command('create')
      .description('create an entry')
      .requiredOption('--spiffe-id <id>', 'SPIFFE ID that the workload gets')
      .requiredOption(
        '--parent-id <id>',
        'SPIFFE ID of the agent (or alias) below which the workload runs',
      )
      .requiredOption(
        '--selector <type:value>',
        'what the workload must be, such as unix:uid:1000 (repeatable; all must hold)',
        append,
      )
      .option('--x509-ttl <duration>', 'lifetime of its X509-SVIDs')
      .option('--jwt-ttl <duration>', 'lifetime of its JWT-SVIDs')
      .option('--dns-name <name>', 'DNS name in its X509-SVIDs (repeatable)', append)
      .option(
        '--federates-with <trust domain>',
        'foreign trust domain whose bundle it gets (repeatable)',
        append,
      )
      .option('--hint <text>', 'label by which the workload tells several identities apart')
      .option('--expires-in <duration>', 'when the entry is deleted')
      .addOption(new Option('--admin', 'may administer the sentry'))
      .addOption(new Option('--downstream', 'may run a sentry below this one')),
  ).action((flags: CreateFlags) => createEntry(flags, context))
}

const append = (value: string, before: readonly string[] | undefined) => [...(before ?? []), value]

async function createEntry(flags: CreateFlags, context: CliContext): Promise<void> {
  const answer = await ask(entryClient(flags), 'batchCreateEntry', {
    request: { entries: [entryFrom(flags, context)], outputMask: undefined },
    context,
  })
  const entry = created(answer.results[0])
  print(context, {
    format: flags.output,
    kind: 'entry',
    value: entryJson(entry),
    table: () => `created entry ${entry.id}\n${entryTable(entry, context)}`,
  })
}

function created(result: BatchCreateEntryResponse_Result | undefined): Entry {
  if (result?.status?.code === 0 && result.entry) return result.entry
  const known =
    result?.status?.code === ALREADY_EXISTS && result.entry ? `: ${result.entry.id}` : ''
  throw new CliError(
    'CS_REQUEST_REFUSED',
    `${result?.status?.message ?? 'the sentry gave no answer'}${known}`,
  )
}

function entryFrom(flags: CreateFlags, context: CliContext): Entry {
  return Entry.fromPartial({
    spiffeId: wireId(flags.spiffeId),
    parentId: wireId(flags.parentId),
    selectors: flags.selector.map(wireSelector),
    x509SvidTtl: seconds('--x509-ttl', flags.x509Ttl),
    jwtSvidTtl: seconds('--jwt-ttl', flags.jwtTtl),
    dnsNames: [...(flags.dnsName ?? [])],
    federatesWith: [...(flags.federatesWith ?? [])],
    admin: flags.admin ?? false,
    downstream: flags.downstream ?? false,
    hint: flags.hint ?? '',
    expiresAt: expiry(flags.expiresIn, context),
    additionalAttributes: Entry_AdditionalAttributes.create(),
  })
}

function seconds(flag: string, text: string | undefined): number {
  if (text === undefined) return 0
  const ms = parseDuration(text)
  if (ms === undefined || ms < 1000)
    throw new CliError(
      'CS_USAGE',
      `${flag} takes a duration of a second or more, such as 15m, not ${text}`,
    )
  return Math.floor(ms / 1000)
}

function expiry(text: string | undefined, context: CliContext): bigint {
  const left = seconds('--expires-in', text)
  return left === 0 ? 0n : BigInt(Math.floor(context.now().getTime() / 1000) + left)
}

interface ListFlags extends EntryFlags {
  readonly spiffeId?: string
  readonly parentId?: string
  readonly selector?: readonly string[]
}

function registerList(noun: Command, context: CliContext): void {
  withSentry(
    noun
      .command('list')
      .description('list entries')
      .option('--spiffe-id <id>', 'only entries with this SPIFFE ID')
      .option('--parent-id <id>', 'only entries below this parent')
      .option(
        '--selector <type:value>',
        'only entries that have this selector (repeatable)',
        append,
      ),
  ).action(async (flags: ListFlags) => {
    const entries = await listEntries(flags, context)
    print(context, {
      format: flags.output,
      kind: 'entries',
      value: { entries: entries.map(entryJson) },
      table: () => listTable(entries),
    })
  })
}

async function listEntries(flags: ListFlags, context: CliContext): Promise<Entry[]> {
  const entries: Entry[] = []
  const client = entryClient(flags)
  let pageToken = ''
  do {
    const page = await ask(client, 'listEntries', {
      request: { filter: filterFrom(flags), outputMask: undefined, pageSize: PAGE_SIZE, pageToken },
      context,
    })
    entries.push(...page.entries)
    pageToken = page.nextPageToken
  } while (pageToken !== '')
  return entries
}

function filterFrom(flags: ListFlags) {
  return {
    bySpiffeId: flags.spiffeId === undefined ? undefined : wireId(flags.spiffeId),
    byParentId: flags.parentId === undefined ? undefined : wireId(flags.parentId),
    // MATCH_SUPERSET: the entry has at least these selectors.
    bySelectors: flags.selector && {
      selectors: flags.selector.map(wireSelector),
      match: 2 as const,
    },
    byFederatesWith: undefined,
    byHint: undefined,
    byDownstream: undefined,
  }
}

async function deleteEntries(
  ids: readonly string[],
  flags: EntryFlags,
  context: CliContext,
): Promise<void> {
  const { results } = await ask(entryClient(flags), 'batchDeleteEntry', {
    request: { ids: [...ids] },
    context,
  })
  const outcomes = results.map(({ id, status }) => ({
    id,
    deleted: status?.code === 0,
    message: status?.message ?? '',
  }))
  print(context, {
    format: flags.output,
    kind: 'entries-deleted',
    value: { results: outcomes },
    table: () =>
      outcomes
        .map(({ id, deleted, message }) =>
          deleted ? `deleted entry ${id}` : `kept ${id}: ${message}`,
        )
        .join('\n'),
  })
  const kept = outcomes.filter(({ deleted }) => !deleted)
  if (kept.length > 0)
    throw new CliError(
      'CS_NOT_FOUND',
      `${kept.length} of ${outcomes.length} entries were not deleted`,
      { exit: exitCode.error },
    )
}

function listTable(entries: readonly Entry[]): string {
  if (entries.length === 0) return 'no entries; countersign entry create makes one'
  const rows = entries.map((entry) => [
    entry.id,
    idText(entry.spiffeId),
    idText(entry.parentId),
    entry.selectors.map(selectorText).join(' '),
  ])
  return columns(['ID', 'SPIFFE ID', 'PARENT', 'SELECTORS'], rows)
}

function entryTable(entry: Entry, context: CliContext): string {
  const rows: [string, string][] = [
    ['ID', entry.id],
    ['SPIFFE ID', idText(entry.spiffeId)],
    ['Parent', idText(entry.parentId)],
    ['Selectors', entry.selectors.map(selectorText).join(' ')],
    ['X509-SVID TTL', entry.x509SvidTtl === 0 ? 'default' : `${entry.x509SvidTtl} s`],
    ['JWT-SVID TTL', entry.jwtSvidTtl === 0 ? 'default' : `${entry.jwtSvidTtl} s`],
    ['Revision', entry.revisionNumber.toString()],
    ['Created', isoTime(entry.createdAt) ?? 'unknown'],
  ]
  if (entry.dnsNames.length > 0) rows.push(['DNS names', entry.dnsNames.join(' ')])
  if (entry.federatesWith.length > 0) rows.push(['Federates with', entry.federatesWith.join(' ')])
  if (entry.hint) rows.push(['Hint', entry.hint])
  if (entry.expiresAt !== 0n)
    rows.push(['Expires', relativeTime(Number(entry.expiresAt) * 1000, context.now())])
  if (entry.admin) rows.push(['Admin', 'yes'])
  if (entry.downstream) rows.push(['Downstream', 'yes'])
  return fields(rows)
}

const entryClient = (flags: EntryFlags) => sentryClient(EntryClient, flags.sentrySocket)

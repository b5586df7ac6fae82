import { type Command, Option } from 'commander'
import { readRequired } from '../platform/files.js'
import { BundleClient } from '../proto/gen/spire/api/server/bundle/v1/bundle.js'
import type { Bundle } from '../proto/gen/spire/api/types/types.js'
import {
  parseTrustDomain,
  readBundleDocument,
  type TrustBundle,
  toPem,
  writeBundleDocument,
} from '../spiffe/index.js'
import type { CliContext, OutputFormat } from './context.js'
import { CliError } from './errors.js'
import { columns, print, relativeTime } from './output.js'
import { printable } from './printable.js'
import { ask, sentryClient, withSentry } from './sentry-client.js'
import { bundleFromWire, bundleToWire } from './wire-bundle.js'

const MAX_BUNDLE_BYTES = 16 * 2 ** 20

interface BundleFlags {
  readonly sentrySocket?: string
  readonly output: OutputFormat
}

/** `countersign bundle show|list|set|delete`: the keys of our own and of other trust domains. */
export function registerBundle(program: Command, context: CliContext): void {
  const noun = program
    .command('bundle')
    .description('trust bundles: the keys of our own and of other trust domains')
  registerShow(noun, context)
  withSentry(
    noun.command('list').description('list the trust domains whose bundles are held'),
  ).action((flags: BundleFlags) => list(flags, context))
  withSentry(
    noun
      .command('set <trust-domain>')
      .description('store the bundle of another trust domain, from a SPIFFE bundle document')
      .requiredOption('-f, --file <path>', 'the document'),
  ).action((name: string, flags: BundleFlags & { file: string }) => set(name, flags, context))
  withSentry(
    noun.command('delete <trust-domain>').description('forget the bundle of another trust domain'),
  ).action((name: string, flags: BundleFlags) => forget(name, flags, context))
}

interface ShowFlags extends BundleFlags {
  readonly format: 'table' | 'pem' | 'spiffe'
}

function registerShow(noun: Command, context: CliContext): void {
  withSentry(
    noun
      .command('show [trust-domain]')
      .description('show a bundle, our own unless another is named')
      .addOption(
        new Option(
          '--format <format>',
          'pem gives the root certificates, spiffe the bundle document',
        )
          .choices(['table', 'pem', 'spiffe'])
          .default('table'),
      ),
  ).action(async (name: string | undefined, flags: ShowFlags) => {
    const bundle = bundleFromWire(await fetchBundle(name, flags, context))
    if (flags.format === 'pem')
      context.stdout.write(
        bundle.x509Authorities.map(({ der }) => toPem('CERTIFICATE', der)).join(''),
      )
    else if (flags.format === 'spiffe')
      context.stdout.write(`${printable(writeBundleDocument(bundle))}\n`)
    else
      print(context, {
        format: flags.output,
        kind: 'bundle',
        value: bundleJson(bundle),
        table: () => bundleTable(bundle, context),
      })
  })
}

function fetchBundle(
  name: string | undefined,
  flags: BundleFlags,
  context: CliContext,
): Promise<Bundle> {
  const client = bundleClient(flags)
  if (name === undefined)
    return ask(client, 'getBundle', {
      request: { outputMask: undefined },
      context,
    })
  const trustDomain = parseTrustDomain(name)
  return ask(client, 'getFederatedBundle', {
    request: { trustDomain, outputMask: undefined },
    context,
  })
}

async function list(flags: BundleFlags, context: CliContext): Promise<void> {
  const client = bundleClient(flags)
  const own = await fetchBundle(undefined, flags, context)
  const { bundles } = await ask(client, 'listFederatedBundles', {
    request: { outputMask: undefined, pageSize: 0, pageToken: '' },
    context,
  })
  const all = [own, ...bundles].map(bundleFromWire)
  print(context, {
    format: flags.output,
    kind: 'bundles',
    value: { bundles: all.map(bundleJson) },
    table: () =>
      columns(
        ['TRUST DOMAIN', 'ROOTS', 'JWT KEYS', 'SEQUENCE'],
        all.map((bundle, at) => [
          at === 0 ? `${bundle.trustDomain} (own)` : bundle.trustDomain,
          `${bundle.x509Authorities.length}`,
          `${bundle.jwtAuthorities.size}`,
          `${bundle.sequence ?? '-'}`,
        ]),
      ),
  })
}

async function set(
  name: string,
  flags: BundleFlags & { file: string },
  context: CliContext,
): Promise<void> {
  const trustDomain = parseTrustDomain(name)
  const bundle = readBundleDocument(await readRequired(flags.file, MAX_BUNDLE_BYTES), trustDomain)
  const { results } = await ask(bundleClient(flags), 'batchSetFederatedBundle', {
    request: { bundle: [bundleToWire(bundle)], outputMask: undefined },
    context,
  })
  assertDone(results[0]?.status)
  const value = {
    trust_domain: trustDomain,
    roots: bundle.x509Authorities.length,
    jwt_keys: bundle.jwtAuthorities.size,
  }
  print(context, {
    format: flags.output,
    kind: 'bundle-set',
    value,
    table: () =>
      `stored the bundle of ${trustDomain}: ${value.roots} roots, ${value.jwt_keys} JWT keys`,
  })
}

async function forget(name: string, flags: BundleFlags, context: CliContext): Promise<void> {
  const trustDomain = parseTrustDomain(name)
  const { results } = await ask(bundleClient(flags), 'batchDeleteFederatedBundle', {
    request: { trustDomains: [trustDomain], mode: 0 },
    context,
  })
  assertDone(results[0]?.status)
  print(context, {
    format: flags.output,
    kind: 'bundle-deleted',
    value: { trust_domain: trustDomain },
    table: () => `forgot the bundle of ${trustDomain}`,
  })
}

function assertDone(status: { code: number; message: string } | undefined): void {
  if (status?.code === 0) return
  throw new CliError('CS_REQUEST_REFUSED', status?.message ?? 'the sentry gave no answer')
}

function bundleJson(bundle: TrustBundle): Readonly<Record<string, unknown>> {
  return {
    trust_domain: bundle.trustDomain,
    sequence: bundle.sequence ?? null,
    refresh_hint: bundle.refreshHint ?? null,
    x509_authorities: bundle.x509Authorities.map((authority) => ({
      subject_key_id: authority.subjectKeyId ?? null,
      fingerprint: authority.fingerprint,
      not_before: new Date(authority.notBefore).toISOString(),
      not_after: new Date(authority.notAfter).toISOString(),
    })),
    jwt_authorities: [...bundle.jwtAuthorities.keys()].map((keyId) => ({ key_id: keyId })),
  }
}

function bundleTable(bundle: TrustBundle, context: CliContext): string {
  const roots = bundle.x509Authorities.map((root) => [
    'root',
    root.subjectKeyId ?? root.fingerprint.slice(0, 40),
    relativeTime(root.notAfter, context.now()),
  ])
  const keys = [...bundle.jwtAuthorities.keys()].map((keyId) => ['JWT key', keyId, ''])
  return `bundle of ${bundle.trustDomain}, sequence ${bundle.sequence ?? '-'}\n${columns(['KIND', 'KEY ID', 'EXPIRES'], [...roots, ...keys])}`
}

const bundleClient = (flags: BundleFlags) => sentryClient(BundleClient, flags.sentrySocket)

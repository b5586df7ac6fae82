import { join } from 'node:path'
import type { Clock } from '../platform/clock.js'
import { ensurePrivateFolder } from '../platform/files.js'
import type { Log } from '../platform/log.js'
import type { Random } from '../platform/random.js'
import { type Sealer, sealedFile } from '../platform/sealer.js'
import type { TrustDomain } from '../spiffe/index.js'
import { agentTable } from './attestation/agent-record.js'
import { joinTokenTable } from './attestation/join-token.js'
import { type AuditLog, openAuditLog } from './audit/audit-log.js'
import { type Authorities, openAuthorities } from './authorities/authorities.js'
import type { LifetimeSettings } from './authorities/lifetimes.js'
import { bundleTable } from './bundles/bundle-record.js'
import { publishOwnBundle } from './bundles/own-bundle.js'
import type { Closers } from './closers.js'
import { type Datastore, openDatastore } from './datastore/datastore.js'
import { openSqlite } from './datastore/sqlite.js'
import { policyTable, policyTargetTable } from './policy/policy-record.js'
import { entryTable } from './registration/entry.js'

export interface StateOptions {
  readonly trustDomain: TrustDomain
  readonly dataFolder: string
  readonly sealer: Sealer
  readonly lifetimes: LifetimeSettings
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** What the sentry keeps in its data folder. */
export interface SentryState {
  readonly datastore: Datastore
  readonly audit: AuditLog
  readonly authorities: Authorities
}

const tables = [
  entryTable,
  agentTable,
  joinTokenTable,
  bundleTable,
  policyTable,
  policyTargetTable,
] as const

/**
 * Opens the data folder, or begins one. Nothing that cannot be read is replaced. Throws `CS_FOLDER_…`,
 * `CS_DATASTORE_…`, `CS_AUDIT_BROKEN`, `CS_SEAL_…` and what opening the authorities throws.
 */
export async function openState(options: StateOptions, closing: Closers): Promise<SentryState> {
  const { trustDomain, dataFolder, sealer, clock, random, log } = options
  await ensurePrivateFolder(dataFolder)
  const dialect = await openSqlite(join(dataFolder, 'sentry.db'))
  const datastore = await openDatastore({ dialect, tables, trustDomain, clock, log })
  closing.defer(async () => await datastore[Symbol.asyncDispose]())
  const audit = openAuditLog({ path: join(dataFolder, 'audit.jsonl'), clock, random, log })
  closing.defer(() => audit[Symbol.dispose]())
  const authorities = await openAuthorities({
    trustDomain,
    file: sealedFile({
      path: join(dataFolder, 'authorities.sealed'),
      sealer,
      context: `authorities of ${trustDomain}`,
    }),
    // The datastore comes first, so a bundle in it says that there were authorities.
    mustExist: datastore.view(bundleTable).get(trustDomain) !== undefined,
    clock,
    random,
    audit,
    ...options.lifetimes,
  })
  await publishOwnBundle({ datastore, authorities, trustDomain })
  return { datastore, audit, authorities }
}

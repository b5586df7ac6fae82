import { copyFile, readFile, rm, writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { createMetrics } from '../../platform/metrics.js'
import { openSealer } from '../../platform/sealer.js'
import { BundleClient } from '../../proto/gen/spire/api/server/bundle/v1/bundle.js'
import { EntryClient } from '../../proto/gen/spire/api/server/entry/v1/entry.js'
import { readAuditLine } from '../../sentry/audit/audit-log.js'
import { startSentry } from '../../sentry/server.js'
import { parseTrustDomain } from '../../spiffe/index.js'
import { fakeClock } from '../support/fake-clock.js'
import { memoryLog } from '../support/memory-log.js'
import { tempFolder } from '../support/temp-folder.js'
import { until } from '../support/until.js'
import { ask, runningIn, sentryOptions, testSentry } from './running-sentry.js'

test('after a restart the same authorities, agents and bundle are there', async () => {
  await using folder = await tempFolder()
  const first = await runningIn(folder)
  const agent = await first.attest()
  const bundle = first.sentry.bundle()
  await first[Symbol.asyncDispose]()

  await using second = await runningIn(folder)
  expect(second.sentry.bundle().x509Authorities.map(({ fingerprint }) => fingerprint)).toEqual(
    bundle.x509Authorities.map(({ fingerprint }) => fingerprint),
  )
  expect(second.sentry.bundle().sequence).toBe(bundle.sequence)
  const own = second.remote(EntryClient, agent.svid)
  expect((await ask(own, 'getAuthorizedEntries', { outputMask: undefined })).entries).toEqual([])
})

test('a data folder is refused with another key, for another trust domain, or with a part missing', async () => {
  await using folder = await tempFolder()
  const first = await runningIn(folder)
  await first[Symbol.asyncDispose]()
  const sealed = await readFile(folder.file('data/authorities.sealed'))
  const refused = async (changes: Parameters<typeof sentryOptions>[1]) =>
    startSentry(await sentryOptions(folder, changes)).then(
      () => 'nothing was refused',
      (error: { code: string }) => error.code,
    )
  const sealer = await openSealer({ kind: 'key', bytes: Buffer.alloc(32, 8) })
  expect(await refused({ sealer })).toBe('CS_SEAL_BROKEN')
  expect(await refused({ trustDomain: parseTrustDomain('other.example') })).toBe(
    'CS_DATASTORE_FOREIGN',
  )
  const flipped = Buffer.from(sealed)
  flipped[100]! ^= 1
  await writeFile(folder.file('data/authorities.sealed'), flipped)
  expect(await refused({})).toBe('CS_SEAL_BROKEN')
  expect(await readFile(folder.file('data/authorities.sealed'))).toEqual(flipped)
  await writeFile(folder.file('data/authorities.sealed'), sealed)
  await copyFile(folder.file('data/sentry.db'), folder.file('kept'))
  await writeFile(folder.file('data/sentry.db'), 'garbage'.repeat(1000))
  expect(await refused({})).toBe('CS_DATASTORE_CORRUPT')
  await copyFile(folder.file('kept'), folder.file('data/sentry.db'))
  await using second = await runningIn(folder)
  expect(second.sentry.ready()).toEqual({ ready: true, reasons: [] })
})

test('authorities that were there and are gone are not made anew', async () => {
  await using folder = await tempFolder()
  const first = await runningIn(folder)
  await first[Symbol.asyncDispose]()
  await rm(folder.file('data/authorities.sealed'))
  await expect(startSentry(await sentryOptions(folder))).rejects.toMatchObject({
    code: 'CS_AUTHORITY_FILE_INVALID',
  })
})

test('two sentries in one folder: the second is refused', async () => {
  await using folder = await tempFolder()
  await using first = await runningIn(folder)
  const options = await sentryOptions(folder, { adminSocket: { path: folder.file('b.sock') } })
  await expect(startSentry(options)).rejects.toMatchObject({ code: 'CS_FOLDER_IN_USE' })
  expect(first.sentry.ready().ready).toBe(true)
})

test('a lifetime that does not fit is refused with the number that does', async () => {
  await using folder = await tempFolder()
  const start = async (lifetimes: object) => startSentry(await sentryOptions(folder, { lifetimes }))
  await expect(start({ issuer: 3600, x509Svid: 3600 })).rejects.toMatchObject({
    code: 'CS_TTL_TOO_LONG',
    message: expect.stringContaining('1800'),
  })
  await expect(start({ jwtKey: 600, jwtSvid: 300 })).rejects.toMatchObject({
    code: 'CS_TTL_TOO_LONG',
  })
})

test('a clock that went back is told, with how far at least, until it has caught up', async () => {
  await using folder = await tempFolder()
  const now = new Date()
  const first = await runningIn(folder, { clock: fakeClock(now) })
  await first.attest()
  await first[Symbol.asyncDispose]()
  const clock = fakeClock(new Date(now.getTime() - 8_000))
  const log = memoryLog()
  await using second = await runningIn(folder, { clock, log })
  expect(second.sentry.ready()).toEqual({
    ready: true,
    reasons: ['CS_CLOCK_WENT_BACK: at least 8 s behind the last record'],
  })
  expect(log.lines.map(({ message }) => message)).toContain('sentry started with a problem')
  await clock.advance(9_000)
  expect(second.sentry.ready().reasons).toEqual([])
})

test('with a clock an hour back nothing is signed: the start is refused by code', async () => {
  await using folder = await tempFolder()
  const now = new Date()
  const first = await runningIn(folder, { clock: fakeClock(now) })
  await first[Symbol.asyncDispose]()
  const clock = fakeClock(new Date(now.getTime() - 3_600_000))
  await expect(runningIn(folder, { clock })).rejects.toMatchObject({
    code: 'CS_AUTHORITY_NOT_VALID',
  })
})

test('the issuer rotates on the clock, agents of before go on, and the bundle stays as it was', async () => {
  const clock = fakeClock(new Date())
  await using test = await testSentry({
    clock,
    lifetimes: { issuer: 240, x509Svid: 60, agentSvid: 120 },
  })
  const agent = await test.attest()
  const issuer = test.sentry.status().authorities.issuer.serialNumber
  const { sequence } = test.sentry.bundle()
  for (let round = 0; round < 12; round += 1) {
    await clock.advance(10_000)
    await until(() => clock.waiting() > 0)
  }
  await until(() => test.sentry.status().authorities.issuer.serialNumber !== issuer)
  expect(test.sentry.bundle().sequence).toBe(sequence)
  const next = await test.attest()
  expect(next.svid.chain[1]?.serialNumber).not.toBe(agent.svid.chain[1]?.serialNumber)
})

test('the own certificate is replaced in time, and new connections see the new one', async () => {
  const clock = fakeClock(new Date())
  await using test = await testSentry({ clock })
  const before = test.sentry.status().serverIdentityExpiresAt
  await clock.advance(1_810_000)
  await until(() => test.sentry.status().serverIdentityExpiresAt > before)
  await clock.advance(1_800_000)
  const bundle = await ask(test.remote(BundleClient), 'getBundle', { outputMask: undefined })
  expect(bundle.x509Authorities).toHaveLength(1)
})

test('every issuance, refusal and act of an administrator is in the audit log, in one chain', async () => {
  await using folder = await tempFolder()
  const test = await runningIn(folder)
  const agent = await test.attest()
  const entries = test.local(EntryClient)
  await ask(entries, 'batchDeleteEntry', { ids: ['nobody'] })
  await ask(test.remote(EntryClient, agent.svid), 'countEntries', { filter: undefined }).catch(
    () => undefined,
  )
  await test[Symbol.asyncDispose]()
  const text = await readFile(folder.file('data/audit.jsonl'), 'utf8')
  const records = text.trimEnd().split('\n').map(readAuditLine)
  const types = records.map(({ type }) => type)
  for (const type of [
    'svid.issued.v1',
    'sentry.started.v1',
    'token.created.v1',
    'agent.attested.v1',
    'call.denied.v1',
  ]) {
    expect(types).toContain(type)
  }
  records.slice(1).forEach(({ prev }, index) => expect(prev).toBe(records[index]?.hash))
  const attested = records.find(({ type }) => type === 'agent.attested.v1')
  expect(attested).toMatchObject({ subject: agent.id, details: { attestor: 'join_token' } })
  const denied = records.find(({ type }) => type === 'call.denied.v1')
  expect(denied).toMatchObject({ requester: agent.id, code: 'CS_CALLER_NOT_ALLOWED' })
})

test('metrics name no caller, and count what was issued and refused', async () => {
  const metrics = createMetrics()
  await using test = await testSentry({ metrics })
  const agent = await test.attest()
  const text = await metrics.text()
  expect(text).toContain(
    'countersign_svid_issued_total{svid_type="x509",attestor="node",trust_domain="prod.example"} 1',
  )
  expect(text).toContain('countersign_ca_expiry_timestamp_seconds{authority="issuer"}')
  expect(text).toContain('countersign_ca_expiry_remaining_seconds{authority="root"}')
  expect(text).not.toContain(agent.id)
})

import { appendFile, chmod, readFile, symlink, truncate, writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { systemRandom } from '../../../platform/random.js'
import { FIRST_PREV, openAuditLog, readAuditLine } from '../../../sentry/audit/audit-log.js'
import { fakeClock } from '../../support/fake-clock.js'
import { memoryLog } from '../../support/memory-log.js'
import { buildProgram, runProgram } from '../../support/program.js'
import { seededRandom } from '../../support/seeded-random.js'
import { type TempFolder, tempFolder } from '../../support/temp-folder.js'

const clock = fakeClock()

function open(folder: TempFolder, log = memoryLog()) {
  return openAuditLog({ path: folder.file('audit.jsonl'), clock, random: systemRandom, log })
}

const linesOf = async (folder: TempFolder) =>
  (await readFile(folder.file('audit.jsonl'), 'utf8')).split('\n').slice(0, -1)

/** Reads all lines and checks that each names the hash of the one before. */
async function chainOf(folder: TempFolder) {
  const records = (await linesOf(folder)).map(readAuditLine)
  records.forEach(({ prev }, index) => {
    expect(prev).toBe(index === 0 ? FIRST_PREV : records[index - 1]?.hash)
  })
  return records
}

test('records are lines of JSON that name the hash of the line before, also over a restart', async () => {
  await using folder = await tempFolder()
  {
    using audit = open(folder)
    audit.record({ type: 'sentry.started.v1', requester: 'local' })
    audit.record({
      type: 'svid.denied.v1',
      subject: 'spiffe://prod.example/app',
      requester: 'spiffe://prod.example/spire/agent/x',
      code: 'CS_ENTRY_NOT_FOUND',
      details: { entryId: 'e', ttl: 3600, names: ['a', 'b'], admin: false },
    })
  }
  {
    using audit = open(folder)
    audit.record({ type: 'sentry.stopped.v1' })
    expect(audit.lastRecordAt).toBe(clock.now().getTime())
  }
  const records = await chainOf(folder)
  expect(records.map(({ type }) => type)).toEqual([
    'sentry.started.v1',
    'svid.denied.v1',
    'sentry.stopped.v1',
  ])
  expect(records[1]).toMatchObject({
    id: expect.stringMatching(/^[0-9a-f-]{36}-2$/),
    time: clock.now().toISOString(),
    subject: 'spiffe://prod.example/app',
    code: 'CS_ENTRY_NOT_FOUND',
    details: { entryId: 'e', ttl: 3600, names: ['a', 'b'], admin: false },
  })
})

test('what is recorded in one turn is written at its end, and whoever waits is told then', async () => {
  await using folder = await tempFolder()
  using audit = open(folder)
  audit.record({ type: 'sentry.started.v1' })
  audit.record({ type: 'sentry.stopped.v1' })
  await audit.settled()
  expect(await chainOf(folder)).toHaveLength(2)
  await audit.settled()
  audit.record({ type: 'sentry.started.v1' })
  audit.flush()
  expect(await chainOf(folder)).toHaveLength(3)
})

test('a record that was changed shows', async () => {
  await using folder = await tempFolder()
  using audit = open(folder)
  audit.record({ type: 'agent.banned.v1', subject: 'spiffe://prod.example/spire/agent/x' })
  audit.flush()
  const [line = ''] = await linesOf(folder)
  expect(readAuditLine(line).subject).toBe('spiffe://prod.example/spire/agent/x')
  for (const changed of [
    line.replace('agent/x', 'agent/y'),
    line.replace('"prev":"0', '"prev":"1'),
    line.slice(0, -2),
    'not a record',
  ]) {
    expect(() => readAuditLine(changed)).toThrow(
      expect.objectContaining({ code: 'CS_AUDIT_BROKEN' }),
    )
  }
})

test('a line that was cut short by a crash is taken off with a warning, and the chain goes on', async () => {
  await using folder = await tempFolder()
  {
    using audit = open(folder)
    audit.record({ type: 'sentry.started.v1' })
    audit.record({ type: 'sentry.stopped.v1' })
  }
  const whole = (await readFile(folder.file('audit.jsonl'))).length
  await appendFile(folder.file('audit.jsonl'), '{"id":"half a rec')
  const log = memoryLog()
  {
    using audit = open(folder, log)
    expect((await readFile(folder.file('audit.jsonl'))).length).toBe(whole)
    audit.record({ type: 'sentry.started.v1' })
  }
  expect(log.lines).toMatchObject([
    { level: 'warn', message: 'audit log ended in the middle of a record' },
  ])
  expect(await chainOf(folder)).toHaveLength(3)
})

test.each([
  ['cut in its only record', async (path: string) => truncate(path, 50), 0],
  ['emptied', async (path: string) => truncate(path, 0), 0],
] as const)('a log that was %s begins again', async (_, damage, left) => {
  await using folder = await tempFolder()
  {
    using audit = open(folder)
    audit.record({ type: 'sentry.started.v1' })
  }
  await damage(folder.file('audit.jsonl'))
  using audit = open(folder)
  expect(await linesOf(folder)).toHaveLength(left)
  audit.record({ type: 'sentry.started.v1' })
  audit.flush()
  expect(await chainOf(folder)).toHaveLength(left + 1)
})

test('a log whose last whole line is no record of a chain is refused and left as it is', async () => {
  await using folder = await tempFolder()
  {
    using audit = open(folder)
    audit.record({ type: 'agent.banned.v1', subject: 'spiffe://prod.example/spire/agent/x' })
  }
  const path = folder.file('audit.jsonl')
  const forged = (await readFile(path, 'utf8')).replace('agent/x', 'agent/y')
  await writeFile(path, forged)
  expect(() => open(folder)).toThrow(expect.objectContaining({ code: 'CS_AUDIT_BROKEN' }))
  expect(await readFile(path, 'utf8')).toBe(forged)
})

test.skipIf(process.getuid?.() === 0)('a log that cannot be opened is told by code', async () => {
  await using folder = await tempFolder()
  await writeFile(folder.file('audit.jsonl'), '')
  await chmod(folder.file('audit.jsonl'), 0o400)
  expect(() => open(folder)).toThrow(expect.objectContaining({ code: 'CS_FILE_UNREADABLE' }))
})

test('more records in one turn than are kept are written in between', async () => {
  await using folder = await tempFolder()
  using audit = open(folder)
  for (let index = 0; index < 10_050; index += 1) audit.record({ type: 'sentry.started.v1' })
  audit.flush()
  expect(await chainOf(folder)).toHaveLength(10_050)
})

test('a full disk is reported by code, ends nothing and takes no more memory than is set', async () => {
  await using folder = await tempFolder()
  await symlink('/dev/full', folder.file('audit.jsonl'))
  const log = memoryLog()
  using audit = open(folder, log)
  for (let index = 0; index < 10_050; index += 1) audit.record({ type: 'sentry.started.v1' })
  audit.flush()
  expect(audit.failure()?.code).toBe('CS_AUDIT_UNWRITABLE')
  expect(log.lines.filter(({ code }) => code === 'CS_AUDIT_UNWRITABLE')).toHaveLength(1)
})

test('a killed process leaves a log that goes on, with every record whose answer had left', async () => {
  await using folder = await tempFolder()
  const program = await buildProgram(new URL('./recorder.ts', import.meta.url), folder)
  const random = seededRandom(5)
  let acknowledged = 0
  for (let round = 0; round < 5; round += 1) {
    await using recorder = runProgram(program, [folder.file('audit.jsonl')])
    let left = 1 + Math.floor(random.fraction() * 200)
    for await (const line of recorder.lines) {
      if (line === 'recorded') acknowledged += 1
      left -= 1
      if (left === 0) void recorder.kill()
    }
    using audit = open(folder)
    audit.record({ type: 'sentry.started.v1' })
    audit.flush()
    const records = await chainOf(folder)
    expect(records.filter(({ type }) => type === 'svid.issued.v1').length).toBeGreaterThanOrEqual(
      acknowledged,
    )
  }
}, 60_000)

import { describe, expect, test } from 'vitest'
import { stateSaver } from '../../agent/saver.js'
import { readState } from '../../agent/state.js'
import { PlatformError } from '../../platform/errors.js'
import { ensureKeyFile, openSealer, sealedFile } from '../../platform/sealer.js'
import { parseTrustDomain } from '../../spiffe/index.js'
import { fakeClock } from '../support/fake-clock.js'
import { memoryLog } from '../support/memory-log.js'
import { buildProgram, runProgram } from '../support/program.js'
import { seededRandom } from '../support/seeded-random.js'
import { tempFolder } from '../support/temp-folder.js'

function saving() {
  const clock = fakeClock()
  const written: string[] = []
  let failure: Error | undefined
  let text = ''
  let workMs = 0
  const log = memoryLog()
  const saver = stateSaver({
    file: {
      path: '/nowhere',
      read: () => Promise.resolve(undefined),
      async write(plain) {
        if (failure) throw failure
        if (workMs > 0) await clock.sleep(workMs, new AbortController().signal)
        written.push(Buffer.from(plain).toString())
      },
    },
    state: () => Buffer.from(text),
    clock,
    random: seededRandom(1),
    log,
  })
  const life = new AbortController()
  const running = saver.run(life.signal)
  return {
    clock,
    written,
    log,
    saver,
    set: (next: string) => {
      text = next
    },
    takes: (ms: number) => {
      workMs = ms
    },
    fail: (error: Error | undefined) => {
      failure = error
    },
    async stop() {
      life.abort(new Error('over'))
      await running
    },
  }
}

describe('writing the state', () => {
  test('waits for company: many changes are one write, of the state as it is then', async () => {
    const s = saving()
    for (const text of ['one', 'two', 'three']) {
      s.set(text)
      s.saver.soon()
    }
    await s.clock.advance(249)
    expect(s.written).toEqual([])
    await s.clock.advance(1)
    expect(s.written).toEqual(['three'])
    await s.clock.advance(60_000)
    expect(s.written).toEqual(['three'])
    await s.stop()
  })

  test('waits the longer the more there is to write', async () => {
    const s = saving()
    s.takes(1_000)
    s.saver.soon()
    await s.clock.advance(250)
    await s.clock.advance(1_000)
    expect(s.written).toHaveLength(1)
    s.saver.soon()
    await s.clock.advance(18_999)
    expect(s.written).toHaveLength(1)
    await s.clock.advance(1 + 1_000)
    expect(s.written).toHaveLength(2)
    await s.stop()
  })

  test('does not wait when it must not', async () => {
    const s = saving()
    s.set('own SVID')
    await s.saver.now()
    expect(s.written).toEqual(['own SVID'])
    await s.stop()
  })

  test('is finished before the end', async () => {
    const s = saving()
    s.set('last words')
    s.saver.soon()
    await s.stop()
    expect(s.written).toEqual(['last words'])
  })

  test('that fails is reported by code and tried again', async () => {
    const s = saving()
    s.fail(new PlatformError('CS_FILE_UNWRITABLE', 'no space left'))
    s.set('one')
    s.saver.soon()
    await s.clock.advance(250)
    expect(s.log.lines).toMatchObject([{ level: 'error', code: 'CS_FILE_UNWRITABLE' }])
    s.fail(undefined)
    await s.clock.advance(5_000)
    expect(s.written).toEqual(['one'])
    await s.stop()
  })

  test('that failed when it could not wait is made up for', async () => {
    const s = saving()
    s.fail(new PlatformError('CS_FILE_UNWRITABLE', 'no space left'))
    s.set('one')
    await expect(s.saver.now()).rejects.toMatchObject({ code: 'CS_FILE_UNWRITABLE' })
    s.fail(undefined)
    await s.clock.advance(5_000)
    expect(s.written).toEqual(['one'])
    await s.stop()
  })
})

test('kill -9 while it writes leaves a state that can be used, the last one or the one before', async () => {
  await using folder = await tempFolder()
  const program = await buildProgram(new URL('./state-writer.ts', import.meta.url), folder)
  const keyPath = folder.file('key')
  await ensureKeyFile(keyPath)
  const sealer = await openSealer({ kind: 'key-file', path: keyPath })
  const path = folder.file('state')
  const random = seededRandom(42)

  for (let round = 0; round < 4; round += 1) {
    await using writer = runProgram(program, [path, keyPath])
    const writes = 2 + Math.floor(random.fraction() * 20)
    let last = 0
    for await (const line of writer.lines) {
      last = Number(line)
      if (last >= writes) break
    }
    // The writer is in the middle of the next write, or has just finished it.
    for (let turn = random.fraction() * 40; turn > 0; turn -= 1) {
      await new Promise((resolve) => setImmediate(resolve))
    }
    await writer.kill()
    const bytes = await sealedFile({ path, sealer, context: 'agent state' }).read()
    const state = readState(bytes!, parseTrustDomain('prod.example'))
    expect(Number(state.spentEvidence[0])).toBeGreaterThanOrEqual(last)
    expect(state.held.svids.size).toBe(50)
  }
})

import { Duplex } from 'node:stream'
import { expect, test } from 'vitest'
import type { Connection } from '../../../agent/sentry/connection.js'
import { follow } from '../../../agent/sentry/follow.js'
import { updateReader } from '../../../agent/sentry/read-update.js'
import { silentLog } from '../../../platform/log.js'
import type { FollowRequest } from '../../../proto/gen/countersign/sentry/v1/updates.js'
import { parseTrustDomain } from '../../../spiffe/index.js'

/** A stream to a sentry that takes a message when a test says so. */
function slowStream() {
  const taken: FollowRequest[] = []
  let release: (() => void) | undefined
  const stream = new Duplex({
    objectMode: true,
    read() {},
    write(message: FollowRequest, _, done) {
      taken.push(message)
      release = done
    },
  })
  const call = Object.assign(stream, { cancel: () => stream.destroy() })
  return {
    taken,
    connection: { updates: { follow: () => call }, observe: () => {} } as unknown as Connection,
    async takeAll() {
      for (let done = release; done; done = release) {
        release = undefined
        done()
        await new Promise((resolve) => setImmediate(resolve))
      }
    },
  }
}

test('while the sentry does not read, acknowledgements are not stored up, and the last one counts', async () => {
  const { connection, taken, takeAll } = slowStream()
  const over = new AbortController()
  let sequence = 0n
  let report = () => {}
  const following = follow(
    connection,
    {
      agentVersion: 'test',
      read: updateReader({
        trustDomain: parseTrustDomain('prod.example'),
        heldBundle: () => undefined,
        log: silentLog,
      }),
      onUpdate: () => {},
      acknowledgement: () => ({ sequence, bundleSequence: 0n, reports: [] }),
      onReport(listener) {
        report = listener
        return () => {}
      },
    },
    over.signal,
  )
  for (; sequence < 1000n; sequence += 1n) report()
  await takeAll()
  expect(taken.length).toBeLessThan(50)
  expect(taken.at(-1)?.step).toMatchObject({ $case: 'acknowledgement', value: { sequence: 1000n } })
  over.abort(new Error('enough'))
  await expect(following).rejects.toThrow('enough')
})

import { describe, expect, test } from 'vitest'
import { abortable, withDeadline } from '../../../spiffe/workload-api/waiting.js'
import { fakeClock } from '../../support/fake-clock.js'

const forever = () => new Promise<never>(() => {})

describe('abortable', () => {
  test('gives what the promise gives', async () => {
    const { signal } = new AbortController()
    await expect(abortable(Promise.resolve(1), signal)).resolves.toBe(1)
    await expect(abortable(Promise.resolve(1), undefined)).resolves.toBe(1)
    const fault = new Error('fault')
    await expect(abortable(Promise.reject(fault), signal)).rejects.toBe(fault)
  })

  test('ends with the reason of the signal, also if that had come before', async () => {
    const stop = new AbortController()
    const waiting = abortable(forever(), stop.signal)
    const reason = new Error('enough')
    stop.abort(reason)
    await expect(waiting).rejects.toBe(reason)
    await expect(abortable(forever(), stop.signal)).rejects.toBe(reason)
  })
})

describe('withDeadline', () => {
  const expired = () => new Error('time is up')

  test('gives what the work gives and leaves nobody waiting', async () => {
    const clock = fakeClock()
    const options = { clock, ms: 100, signal: undefined, expired }
    await expect(withDeadline(options, () => Promise.resolve(1))).resolves.toBe(1)
    expect(clock.waiting()).toBe(0)
  })

  test('aborts the work when time is up', async () => {
    const clock = fakeClock()
    let inner: AbortSignal | undefined
    const working = withDeadline({ clock, ms: 100, signal: undefined, expired }, (signal) => {
      inner = signal
      return forever()
    })
    working.catch(() => undefined)
    await clock.advance(99)
    expect(inner?.aborted).toBe(false)
    await clock.advance(1)
    await expect(working).rejects.toThrow('time is up')
    expect(inner?.aborted).toBe(true)
  })

  test('aborts the work when the outer signal does', async () => {
    const clock = fakeClock()
    const stop = new AbortController()
    const working = withDeadline({ clock, ms: 100, signal: stop.signal, expired }, forever)
    const reason = new Error('enough')
    stop.abort(reason)
    await expect(working).rejects.toBe(reason)
    expect(clock.waiting()).toBe(0)
  })
})

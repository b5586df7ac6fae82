import { describe, expect, test } from 'vitest'
import { alarmOn, childOf, lifetime, onAbort, orAborted, within } from '../../agent/waits.js'
import { fakeClock } from '../support/fake-clock.js'

const over = new Error('over')
/** Whether a wait has ended. */
function watched(waiting: Promise<void>): { readonly ended: () => boolean } {
  let ended = false
  void waiting.finally(() => {
    ended = true
  })
  return { ended: () => ended }
}
const never = new Promise<never>(() => {})

describe('an alarm', () => {
  test('ends a wait when the time is over', async () => {
    const clock = fakeClock()
    const { ended } = watched(alarmOn(clock).wait(1_000, lifetime().signal))
    await clock.advance(999)
    expect(ended()).toBe(false)
    await clock.advance(1)
    expect(ended()).toBe(true)
  })

  test('ends a wait when it rings', async () => {
    const alarm = alarmOn(fakeClock())
    const waiting = alarm.wait(Number.POSITIVE_INFINITY, lifetime().signal)
    alarm.ring()
    await waiting
  })

  test('that rang while nobody waited ends the next wait at once, and only that', async () => {
    const clock = fakeClock()
    const alarm = alarmOn(clock)
    alarm.ring()
    alarm.ring()
    await alarm.wait(1_000, lifetime().signal)
    const { ended } = watched(alarm.wait(1_000, lifetime().signal))
    await clock.advance(999)
    expect(ended()).toBe(false)
  })

  test('lets nobody wait for more than half a minute without looking at the wall clock', async () => {
    const clock = fakeClock()
    const waiting = alarmOn(clock).wait(3_600_000, lifetime().signal)
    await clock.advance(30_000)
    await waiting
  })

  test('never ends a wait without time passing, so that nobody can spin', async () => {
    const clock = fakeClock()
    const { ended } = watched(alarmOn(clock).wait(-1, lifetime().signal))
    await clock.advance(0)
    expect(ended()).toBe(false)
    await clock.advance(1)
    expect(ended()).toBe(true)
  })

  test('gives up with the reason of the signal, before or during the wait', async () => {
    const alarm = alarmOn(fakeClock())
    const life = lifetime()
    const waiting = alarm.wait(1_000, life.signal)
    life.abort(over)
    await expect(waiting).rejects.toBe(over)
    await expect(alarm.wait(1_000, life.signal)).rejects.toBe(over)
  })
})

describe('a time limit', () => {
  const expired = () => new Error('too late')

  test('gives the result when it comes in time, and stops its timer', async () => {
    const clock = fakeClock()
    const limit = { clock, ms: 1_000, signal: lifetime().signal, expired }
    expect(await within(limit, () => Promise.resolve(7))).toBe(7)
    expect(clock.waiting()).toBe(0)
  })

  test('throws when the time is over, and tells the work to stop', async () => {
    const clock = fakeClock()
    let stopped = false
    const limited = within({ clock, ms: 1_000, signal: lifetime().signal, expired }, (signal) => {
      onAbort(signal, () => {
        stopped = true
      })
      return never
    })
    limited.catch(() => undefined)
    await clock.advance(1_000)
    await expect(limited).rejects.toThrow('too late')
    expect(stopped).toBe(true)
  })

  test('throws the reason of the signal', async () => {
    const life = lifetime()
    const limited = within(
      { clock: fakeClock(), ms: 1_000, signal: life.signal, expired },
      () => never,
    )
    life.abort(over)
    await expect(limited).rejects.toBe(over)
  })

  test('does not begin when the signal has aborted', async () => {
    const limit = { clock: fakeClock(), ms: 1, signal: AbortSignal.abort(over), expired }
    let begun = false
    const limited = within(limit, () => {
      begun = true
      return never
    })
    await expect(limited).rejects.toBe(over)
    expect(begun).toBe(false)
  })
})

describe('signals', () => {
  test('a child aborts with its parent and by itself, and lets go of the parent', () => {
    const life = lifetime()
    const child = childOf(life.signal)
    const free = childOf(life.signal)
    free[Symbol.dispose]()
    life.abort(over)
    expect(child.signal.reason).toBe(over)
    expect(free.signal.aborted).toBe(false)
    expect(childOf(life.signal).signal.reason).toBe(over)
  })

  test('work is waited for until the signal aborts', async () => {
    expect(await orAborted(Promise.resolve(7), lifetime().signal)).toBe(7)
    const life = lifetime()
    const waiting = orAborted(never, life.signal)
    life.abort(over)
    await expect(waiting).rejects.toBe(over)
  })
})

import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../../platform/clock.js'
import type { Random } from '../../platform/random.js'
import type { Identities } from '../identities/identities.js'
import type { Follower } from './follower.js'

/** Keeps every open stream at the present state. */
export interface Pushes {
  /** Sends the first message at once and every later one when something changes for this caller. */
  follow(follower: Follower): void
  /** How many streams are open. */
  count(): number
  /** Ends all streams with the reply to `reason`, and follows no more. */
  close(reason: unknown): Promise<void>
}

export interface PushOptions {
  readonly identities: Identities
  readonly clock: Clock
  readonly random: Random
  /** A change for more streams than this is spread, so that not every workload reloads at once. */
  readonly massStreams?: number
  readonly massWindowMs?: number
  /** How often the callers of quiet streams are looked at again. */
  readonly reattestEveryMs?: number
}

const DEFAULT_MASS_STREAMS = 100
const DEFAULT_MASS_WINDOW_MS = 500
const DEFAULT_REATTEST_EVERY_MS = 30_000
/** So many attestations and writes take a few milliseconds; the event loop turns after each slice. */
const SLICE = 32
const SLOT_MS = 5

export function pushes(options: PushOptions): Pushes {
  const { identities, clock } = options
  const { reattestEveryMs = DEFAULT_REATTEST_EVERY_MS } = options
  const followers = new Set<Follower>()
  const closed = new AbortController()
  const unsubscribe = identities.onChange(() => wake())
  let changed = false
  let running: Promise<void> | undefined

  const wake = () => {
    changed = true
    running ??= run().finally(() => {
      running = undefined
      if (changed && !closed.signal.aborted) wake()
    })
  }
  const run = async () => {
    while (changed && !closed.signal.aborted) {
      // Everyone is told of a change before anything is done about it, and several make one.
      await setImmediate()
      changed = false
      await deliverChanges(followers, {
        ...options,
        interrupted: () => changed,
        signal: closed.signal,
      })
    }
  }
  const lookAgain = async () => {
    for (;;) {
      await clock.sleep(reattestEveryMs, closed.signal)
      await inSlices(followers, (follower) => void follower.deliver())
    }
  }
  const watching = lookAgain().catch(() => undefined)

  return {
    count: () => followers.size,
    follow(follower) {
      if (closed.signal.aborted || follower.over.aborted) return
      followers.add(follower)
      follower.over.addEventListener('abort', () => followers.delete(follower), { once: true })
      void follower.deliver()
    },
    async close(reason) {
      unsubscribe()
      closed.abort(reason)
      for (const follower of followers) follower.end(reason)
      await Promise.all([running, watching])
    },
  }
}

interface Pass extends PushOptions {
  /** Whether there was another change, which is a reason to start over. */
  readonly interrupted: () => boolean
  readonly signal: AbortSignal
}

/** Withdrawals at once; the rest at once if it concerns few, and each at a moment of its own if many. */
async function deliverChanges(followers: ReadonlySet<Follower>, pass: Pass): Promise<void> {
  const { massStreams = DEFAULT_MASS_STREAMS, massWindowMs = DEFAULT_MASS_WINDOW_MS } = pass
  const stale: Follower[] = []
  await inSlices(followers, (follower) => {
    const standing = follower.standing()
    if (standing === 'refused') void follower.deliver()
    else if (standing === 'stale') stale.push(follower)
    else follower.dueAt = undefined
  })
  if (stale.length <= massStreams || massWindowMs === 0) {
    await inSlices(stale, (follower) => void follower.deliver())
  } else {
    await spread(stale, { ...pass, massWindowMs })
  }
}

/** A stream keeps the moment it has drawn when a further change comes before it. */
async function spread(
  stale: readonly Follower[],
  pass: Pass & { readonly massWindowMs: number },
): Promise<void> {
  const { clock, random, massWindowMs, interrupted, signal } = pass
  const start = monotonicMs(clock)
  for (const follower of stale) follower.dueAt ??= start + random.fraction() * massWindowMs
  const queue = [...stale].sort((a, b) => (a.dueAt ?? 0) - (b.dueAt ?? 0))

  while (queue.length > 0 && !interrupted()) {
    const now = monotonicMs(clock)
    const later = queue.findIndex(({ dueAt }) => (dueAt ?? 0) > now)
    const due = queue.splice(0, later === -1 ? queue.length : later)
    await inSlices(due, (follower) => {
      follower.dueAt = undefined
      void follower.deliver()
    })
    if (queue.length > 0) await clock.sleep(SLOT_MS, signal).catch(() => undefined)
    if (signal.aborted) return
  }
}

async function inSlices(
  followers: Iterable<Follower>,
  act: (follower: Follower) => void,
): Promise<void> {
  let done = 0
  for (const follower of followers) {
    if (follower.over.aborted) continue
    act(follower)
    done += 1
    if (done % SLICE === 0) await setImmediate()
  }
}

function monotonicMs(clock: Clock): number {
  return Number(clock.hrtime() / 1_000_000n)
}

import type { Issuer, X509Answer } from '../../agent/sentry/issuer.js'
import type { Clock } from '../../platform/clock.js'
import type { SpiffeId } from '../../spiffe/index.js'
import type { TestAuthority } from './authority.js'
import { issueForCsr, issueToken } from './issue-for-csr.js'

/** A sentry's issuing calls without the sentry: what it signs is real, when it answers a test decides. */
export interface FakeIssuer extends Issuer {
  /** Entry ids of every call for X.509-SVIDs. */
  readonly batches: readonly (readonly string[])[]
  readonly tokens: readonly { readonly entryId: string; readonly audience: readonly string[] }[]
  /** Answers wait until they are let go. */
  hold(): void
  release(): void
  /** Whole calls fail with what this gives for the entry ids of a call. */
  failCalls(failure: ((entryIds: readonly string[]) => Error | undefined) | undefined): void
  refuse(entryId: string, reason: string | undefined): void
  useAuthority(authority: TestAuthority): void
  /** Issues by a clock of its own, as a sentry on another machine does. */
  useClock(clock: Pick<Clock, 'now'>): void
}

export interface FakeIssuerOptions {
  readonly authority: TestAuthority
  readonly clock: Clock
  readonly idOf: (entryId: string) => SpiffeId
  readonly ttlMs?: number
  readonly ttlSeconds?: number
}

export function fakeIssuer(options: FakeIssuerOptions): FakeIssuer {
  const { idOf } = options
  let clock: Pick<Clock, 'now'> = options.clock
  let authority = options.authority
  const batches: string[][] = []
  const tokens: { entryId: string; audience: readonly string[] }[] = []
  const refusals = new Map<string, string>()
  let failure: ((entryIds: readonly string[]) => Error | undefined) | undefined
  let gate: { readonly opened: Promise<void>; readonly open: () => void } | undefined
  const now = () => clock.now().getTime()
  const pass = async (entryIds: readonly string[], signal: AbortSignal) => {
    await gate?.opened
    signal.throwIfAborted()
    const error = failure?.(entryIds)
    if (error) throw error
  }

  return {
    batches,
    tokens,
    async x509Svids(requests, signal) {
      batches.push(requests.map(({ entryId }) => entryId))
      await pass(batches.at(-1)!, signal)
      return requests.map(({ entryId, csr }): X509Answer => {
        const reason = refusals.get(entryId)
        if (reason !== undefined) return { kind: 'refused', reason }
        const { ttlMs } = options
        const { svid } = issueForCsr(authority, { csr, id: idOf(entryId), now: now(), ttlMs })
        return { kind: 'issued', svid }
      })
    },
    async jwtSvid({ entryId, audience }, signal) {
      tokens.push({ entryId, audience })
      const jti = String(tokens.length)
      await pass([entryId], signal)
      const { ttlSeconds } = options
      return issueToken(authority, { id: idOf(entryId), audience, now: now(), ttlSeconds, jti })
    },
    hold() {
      let open = () => {}
      const opened = new Promise<void>((resolve) => {
        open = resolve
      })
      gate = { opened, open }
    },
    release() {
      gate?.open()
      gate = undefined
    },
    failCalls(next) {
      failure = next
    },
    refuse(entryId, reason) {
      if (reason === undefined) refusals.delete(entryId)
      else refusals.set(entryId, reason)
    },
    useAuthority(next) {
      authority = next
    },
    useClock(next) {
      clock = next
    },
  }
}

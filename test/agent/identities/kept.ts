import { type KeptIdentities, keepIdentities } from '../../../agent/identities/keep.js'
import { noUpdate, type Update } from '../../../agent/identities/update.js'
import { makeSpiffeId } from '../../../spiffe/index.js'
import { type TestAuthority, testAuthority } from '../../support/authority.js'
import { type FakeClock, fakeClock } from '../../support/fake-clock.js'
import { type FakeIssuer, type FakeIssuerOptions, fakeIssuer } from '../../support/fake-issuer.js'
import { type MemoryLog, memoryLog } from '../../support/memory-log.js'
import { seededRandom } from '../../support/seeded-random.js'
import { heldState } from '../held-values.js'

/** Identities that keep themselves fresh from an issuer that a test commands. */
export interface Kept extends AsyncDisposable {
  readonly clock: FakeClock
  readonly authority: TestAuthority
  readonly issuer: FakeIssuer
  readonly identities: KeptIdentities
  readonly log: MemoryLog
  tell(update: Partial<Update>): void
  /** Resolves once `met` holds, which is looked at after every change. */
  until(met: () => boolean): Promise<void>
  /** Moves the clock to a moment, in milliseconds since 1970. */
  advanceTo(moment: number): Promise<void>
}

export function kept(options: Partial<FakeIssuerOptions> & { readonly seed?: number } = {}): Kept {
  const clock = fakeClock()
  const authority = testAuthority('prod.example', { now: clock.now })
  const { trustDomain } = authority
  const log = memoryLog()
  const issuer = fakeIssuer({
    authority,
    clock,
    idOf: (id) =>
      identities.entries().find((entry) => entry.id === id)?.spiffeId ??
      makeSpiffeId(trustDomain, `/${id}`),
    ...options,
  })
  const identities = keepIdentities({
    trustDomain,
    clock,
    random: seededRandom(options.seed ?? 1),
    log,
    initial: heldState(authority, []),
    known: false,
    issuer,
    status: () => ({
      agentId: undefined,
      serialNumber: undefined,
      svidExpiresAt: undefined,
      lastSyncAt: undefined,
      connected: true,
      problem: undefined,
    }),
  })
  const life = new AbortController()
  const running = identities.run(life.signal)
  return {
    clock,
    authority,
    issuer,
    identities,
    log,
    tell: (update) => identities.update({ ...noUpdate, ...update }),
    until: (met) =>
      new Promise((resolve, reject) => {
        const deadline = setTimeout(() => {
          stop()
          reject(new Error(`did not happen: ${log.lines.map(({ message }) => message).join('; ')}`))
        }, 15_000)
        const look = () => {
          if (!met()) return
          clearTimeout(deadline)
          stop()
          resolve()
        }
        const stop = identities.onChange(look)
        look()
      }),
    advanceTo: (moment) => clock.advance(moment - clock.now().getTime()),
    async [Symbol.asyncDispose]() {
      issuer.release()
      life.abort(new Error('test is over'))
      await running
    },
  }
}

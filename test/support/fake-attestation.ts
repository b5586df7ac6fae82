import type { Attestation, AttestedCaller, Caller } from '../../agent/attestation/caller.js'
import { AgentError } from '../../agent/errors.js'
import type { Selector } from '../../agent/identities/identities.js'
import { selectorOf } from './fake-identities.js'

/** Processes that become what a test says, when it says so. */
export interface FakeAttestation extends Attestation {
  /** How often anybody was looked at. */
  readonly looks: number
  /** How many callers are held. */
  readonly held: number
  /** What every caller shows from now on. */
  show(selectors: readonly string[]): void
  /** Every caller runs another binary from now on. */
  exec(): void
  /** Every caller is gone from now on. */
  exit(): void
  /** Attestations end only after this resolves; undefined for at once. */
  hold(until: Promise<void> | undefined): void
}

export function fakeAttestation(first: readonly string[] = ['unix:uid:1000']): FakeAttestation {
  let shown = first
  let binary = 1
  let gone = false
  let wait: Promise<void> | undefined
  let looks = 0
  let held = 0

  const callerWith = (own: readonly Selector[]): Caller => {
    held += 1
    let open = true
    const first = binary
    return {
      pid: 4711,
      uid: 1000,
      heldBy: 'socket',
      async attest(signal) {
        looks += 1
        await wait
        signal.throwIfAborted()
        if (gone || !open) throw new AgentError('CS_CALLER_NOT_ATTESTED', 'process has ended')
        if (binary !== first)
          throw new AgentError('CS_CALLER_CHANGED', 'process runs another binary')
        return attested([...own, ...shown.map(selectorOf)], binary)
      },
      close() {
        if (open) held -= 1
        open = false
      },
    }
  }
  return {
    get looks() {
      return looks
    },
    get held() {
      return held
    },
    callerOn: (_, selectors) => callerWith(selectors),
    processWithPid: () => callerWith([]),
    show(selectors) {
      shown = selectors
    },
    exec() {
      binary += 1
    },
    exit() {
      gone = true
    },
    hold(until) {
      wait = until
    },
  }
}

function attested(selectors: readonly Selector[], binary: number): AttestedCaller {
  return {
    selectors,
    key: JSON.stringify(selectors),
    facts: {
      pid: 4711,
      startTime: 99n,
      uid: 1000,
      gid: 1000,
      groups: [],
      binary: { link: `/usr/bin/app-${binary}`, file: `1:${binary}`, version: `${binary}` },
    },
  }
}

import { SpiffeError } from '../../spiffe/index.js'
import type { AttestedCaller } from '../attestation/caller.js'
import { AgentError } from '../errors.js'
import type { HeldEntry, Identities } from '../identities/identities.js'

/** What a caller is entitled to. */
export interface Entitlements {
  /** Throws `CS_IDENTITIES_NOT_READY`. */
  assertReady(): void
  /** At least one entry, the default identity first. Throws `CS_NO_IDENTITY`. */
  entriesOf(caller: AttestedCaller): readonly HeldEntry[]
  /** Stops keeping up with changes. */
  close(): void
}

/** Callers are many, their sets of selectors few. */
const MAX_REMEMBERED = 4096

/** Looks up each set of selectors once between two changes. */
export function entitlements(identities: Identities): Entitlements {
  const found = new Map<string, readonly HeldEntry[]>()
  const close = identities.onChange(() => found.clear())

  const lookUp = ({ key, selectors }: AttestedCaller) => {
    const entries = identities.entriesFor(selectors)
    if (found.size >= MAX_REMEMBERED) found.clear()
    found.set(key, entries)
    return entries
  }
  return {
    close,
    assertReady() {
      if (identities.ready()) return
      throw new AgentError('CS_IDENTITIES_NOT_READY', 'agent holds nothing to serve yet')
    },
    entriesOf(caller) {
      const entries = found.get(caller.key) ?? lookUp(caller)
      if (entries.length === 0) {
        throw new SpiffeError('CS_NO_IDENTITY', 'no entry matches the selectors of the caller')
      }
      return entries
    },
  }
}

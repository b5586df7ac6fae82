import type { Held, HeldBundle, HeldSvid } from '../../agent/identities/held.js'
import { nothingHeld } from '../../agent/identities/held.js'
import type { HeldEntry } from '../../agent/identities/identities.js'
import { readBundle, readEntry } from '../../agent/sentry/wire.js'
import type { TrustBundle } from '../../spiffe/index.js'
import { parseTrustDomain } from '../../spiffe/index.js'
import type { TestAuthority } from '../support/authority.js'
import { pkcs8Of } from '../support/certificate.js'
import { entry, wireBundle } from '../support/fake-sentry.js'

/** An entry as the agent holds it. */
export function heldEntry(fields: Parameters<typeof entry>[0]): HeldEntry {
  return readEntry(entry(fields), parseTrustDomain(fields.trustDomain ?? 'prod.example'))
}

export function heldBundle(
  bundle: TrustBundle,
  tainted: Parameters<typeof wireBundle>[1] = {},
): HeldBundle {
  return readBundle(wireBundle(bundle, tainted))
}

/** A real SVID for the entry, due at `renewAt`. */
export function heldSvid(
  authority: TestAuthority,
  held: HeldEntry,
  { renewAt = Number.MAX_SAFE_INTEGER, ttlMs = 3_600_000 } = {},
): HeldSvid {
  const svid = authority.issueX509({ id: held.spiffeId, ttlMs })
  return {
    svid,
    privateKeyDer: pkcs8Of(svid.privateKey),
    revision: held.revision,
    createdAt: held.createdAt,
    renewAt,
    expiresAt: svid.chain[0].notAfter,
  }
}

/** A state with the authority's bundle, these entries and an SVID for each. */
export function heldState(authority: TestAuthority, entries: readonly HeldEntry[]): Held {
  return {
    ...nothingHeld,
    entries,
    bundles: new Map([[authority.trustDomain, heldBundle(authority.bundle)]]),
    svids: new Map(entries.map((each) => [each.id, heldSvid(authority, each)])),
  }
}

import type { Random } from '../../platform/random.js'
import type { X509SVID } from '../../proto/gen/spire/api/types/types.js'
import { trustDomainOf } from '../../spiffe/index.js'
import { AgentError } from '../errors.js'
import type { RequestedKey } from '../sentry/csr.js'
import { skewed } from '../sentry/peer.js'
import { readX509Svid, unusable } from '../sentry/wire.js'
import type { Held, HeldSvid } from './held.js'
import type { HeldEntry } from './identities.js'
import { drawRenewal, expiryOf } from './renewal.js'
import { trustJudge } from './trust.js'

/**
 * Makes a reader of what a sentry issued: it must name the entry's SPIFFE ID, hold our key, be valid
 * now and lead to our bundle. Throws `CS_SENTRY_RESPONSE_INVALID` or `CS_CLOCK_SKEWED`.
 */
export function svidReader(options: {
  readonly held: Held
  readonly now: number
  readonly random: Random
}): (
  wire: X509SVID,
  wanted: { readonly entry: HeldEntry; readonly key: RequestedKey },
) => HeldSvid {
  const { held, now, random } = options
  const judges = new Map<string, ReturnType<typeof trustJudge>>()

  return (wire, { entry, key }) => {
    const svid = readX509Svid(wire, { key, hint: entry.hint })
    if (svid.id !== entry.spiffeId) {
      throw unusable(`sentry issued ${svid.id} where ${entry.spiffeId} was due`)
    }
    if (!judgeFor(trustDomainOf(svid.id))(svid)) {
      throw unusable(`SVID for ${svid.id} does not lead to an authority of our bundle`)
    }
    const expiresAt = expiryOf(svid)
    if (expiresAt <= now)
      throw skewed(`the new SVID for ${svid.id} has already ended by this clock`)
    return {
      svid,
      privateKeyDer: key.privateKeyDer,
      revision: entry.revision,
      createdAt: entry.createdAt,
      renewAt: drawRenewal({ svid, now, random }),
      expiresAt,
    }
  }

  function judgeFor(trustDomain: ReturnType<typeof trustDomainOf>): ReturnType<typeof trustJudge> {
    const known = judges.get(trustDomain)
    if (known) return known
    const bundle = held.bundles.get(trustDomain)
    if (!bundle) throw new AgentError('CS_SENTRY_RESPONSE_INVALID', 'no bundle of our own is held')
    const judge = trustJudge({ ...bundle, taintedX509: new Set(), taintedJwt: new Set() }, now)
    judges.set(trustDomain, judge)
    return judge
  }
}

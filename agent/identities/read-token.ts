import type { Random } from '../../platform/random.js'
import type { JWTSVID } from '../../proto/gen/spire/api/types/types.js'
import { decodeJwt } from '../../spiffe/index.js'
import { skewed } from '../sentry/peer.js'
import { unusable } from '../sentry/wire.js'
import type { HeldEntry } from './identities.js'
import { drawMoment } from './renewal.js'

/** A JWT-SVID in hand. Times are milliseconds since 1970. */
export interface HeldToken {
  readonly entry: HeldEntry
  readonly audience: readonly string[]
  readonly token: string
  readonly keyId: string
  readonly expiresAt: number
  /** Drawn once, when the token came. */
  readonly refreshAt: number
  /** From here on it is too near its end to be handed out without a try for a newer one. */
  readonly oldAt: number
}

/** The last part of its life in which a token is old. */
const OLD = 0.2

/**
 * Reads a token that was issued for the entry and the audience. Nobody but its receivers verifies its
 * signature; what it says must be what was asked. Throws `CS_SENTRY_RESPONSE_INVALID`, `CS_CLOCK_SKEWED`.
 */
export function readToken(
  wire: JWTSVID,
  options: {
    readonly entry: HeldEntry
    readonly audience: readonly string[]
    readonly now: number
    readonly random: Random
  },
): HeldToken {
  const { entry, audience, now, random } = options
  const { header, claims } = decoded(wire.token)
  const expiresAt = Number(wire.expiresAt) * 1000
  const said = [claims['aud']].flat()
  const keyId = header['kid']
  if (claims['sub'] !== entry.spiffeId) throw unusable('token names another SPIFFE ID')
  if (!audience.every((name) => said.includes(name))) throw unusable('token lacks an audience')
  if (wire.issuedAt <= 0n || wire.expiresAt <= wire.issuedAt)
    throw unusable('token has no lifetime')
  if (claims['exp'] !== Number(wire.expiresAt)) throw unusable('token ends at another time')
  if (expiresAt <= now) throw skewed('the new token has already ended by this clock')

  const life = Math.min(expiresAt - Number(wire.issuedAt) * 1000, expiresAt - now)
  return {
    entry,
    audience,
    token: wire.token,
    keyId: typeof keyId === 'string' ? keyId : '',
    expiresAt,
    refreshAt: drawMoment({ life, now, random }),
    oldAt: expiresAt - life * OLD,
  }
}

function decoded(token: string): ReturnType<typeof decodeJwt> {
  try {
    return decodeJwt(token)
  } catch (error) {
    throw unusable(`token: ${(error as Error).message}`)
  }
}

import { SentryError } from '../errors.js'

/** All in seconds. What is left out has a default. */
export interface LifetimeSettings {
  readonly rootTtl?: number
  readonly issuerTtl?: number
  readonly jwtTtl?: number
  /** The longest X509-SVID that an issuer promises to have room for, whenever it is asked. */
  readonly longestX509Svid?: number
  /** No JWT-SVID lives longer, whatever is asked: so long a key stays published behind its last use. */
  readonly longestJwtSvid?: number
}

export interface Lifetimes extends Required<LifetimeSettings> {
  /** How long a JWT key is published before it signs (SPIFFE Federation §4.1). */
  readonly jwtPublishAhead: number
}

const MINUTE = 60
const DAY = 24 * 60 * MINUTE

const DEFAULT_ROOT_TTL = 365 * DAY
const DEFAULT_ISSUER_TTL = 7 * DAY
const DEFAULT_JWT_TTL = 365 * DAY
const DEFAULT_LONGEST_JWT_SVID = DAY

/** Five times the refresh hint of our bundle, so that whoever follows it has the key in time. */
const JWT_PUBLISH_AHEAD = 25 * MINUTE

/** An authority is replaced at half of its life, so that half is what it can always promise. */
const PROMISED_SHARE = 1 / 2
/** A JWT key is replaced at half of its life too, and its successor signs a quarter later at most. */
const PROMISED_JWT_SHARE = 1 / 4

/** Fills in what is not set. Throws `CS_TTL_TOO_LONG` with the number that would hold. */
export function settleLifetimes(settings: LifetimeSettings): Lifetimes {
  const { rootTtl = DEFAULT_ROOT_TTL, issuerTtl = DEFAULT_ISSUER_TTL } = settings
  const { jwtTtl = DEFAULT_JWT_TTL } = settings
  const issuerRoom = Math.floor(issuerTtl * PROMISED_SHARE)
  const jwtRoom = Math.floor(jwtTtl * PROMISED_JWT_SHARE)
  const {
    longestX509Svid = issuerRoom,
    longestJwtSvid = Math.min(DEFAULT_LONGEST_JWT_SVID, jwtRoom),
  } = settings

  assertHeld({
    name: 'issuer',
    ttl: issuerTtl,
    by: 'root',
    room: Math.floor(rootTtl * PROMISED_SHARE),
  })
  assertHeld({ name: 'X509-SVID', ttl: longestX509Svid, by: 'issuer', room: issuerRoom })
  assertHeld({ name: 'JWT-SVID', ttl: longestJwtSvid, by: 'JWT key', room: jwtRoom })
  const jwtPublishAhead = Math.min(JWT_PUBLISH_AHEAD, jwtRoom)
  return { rootTtl, issuerTtl, jwtTtl, longestX509Svid, longestJwtSvid, jwtPublishAhead }
}

function assertHeld(held: {
  readonly name: string
  readonly ttl: number
  readonly by: string
  readonly room: number
}): void {
  const { name, ttl, by, room } = held
  if (Number.isSafeInteger(ttl) && ttl > 0 && ttl <= room) return
  throw new SentryError(
    'CS_TTL_TOO_LONG',
    `lifetime of ${ttl} s for the ${name} does not fit: its ${by} has room for 1 to ${room} s`,
  )
}

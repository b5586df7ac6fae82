import { SpiffeError } from '../errors.js'
import type { SpiffeId } from '../id.js'
import type { RuntimeClock } from '../runtime.js'
import type { OwnJwtSvid } from './jwt-messages.js'
import { abortable, withDeadline } from './waiting.js'
import type { ClientLog } from './watch.js'

export interface JwtRequest {
  readonly audience: readonly string[]
  readonly id: SpiffeId | undefined
}

export interface JwtCacheOptions {
  readonly clock: RuntimeClock
  readonly log: ClientLog
  /** Ends every fetch that still runs. */
  readonly life: AbortSignal
  fetch(request: JwtRequest, signal: AbortSignal): Promise<OwnJwtSvid>
}

/** Tokens per audience and identity. At most one fetch per kind of token runs at a time. */
export interface JwtCache {
  get(request: JwtRequest, signal: AbortSignal | undefined): Promise<OwnJwtSvid>
}

/** The least recently used token goes first when there are more. */
const MAX_TOKENS = 1000

/** A token this close to its end may be too old when it arrives. */
const USABLE_MS = 5000

/** The shortest time between two fetches of one kind, also when the first failed. */
const REFRESH_PAUSE_MS = 5000

const FETCH_TIMEOUT_MS = 30_000

interface Slot {
  token: OwnJwtSvid | undefined
  refreshAt: number
  flight: Promise<OwnJwtSvid> | undefined
}

export function jwtCache(options: JwtCacheOptions): JwtCache {
  const { clock } = options
  const slots = new Map<string, Slot>()
  return {
    get(request, signal) {
      const slot = slotFor(slots, request)
      const now = clock.now().getTime()
      const { token } = slot
      if (!token || token.expiresAt - now < USABLE_MS) {
        return abortable(fetchOnce(slot, request, options), signal)
      }
      if (now >= slot.refreshAt) refresh(slot, request, options)
      return Promise.resolve(token)
    },
  }
}

function slotFor(slots: Map<string, Slot>, { audience, id }: JwtRequest): Slot {
  const key = JSON.stringify([id ?? '', [...new Set(audience)].sort()])
  const slot = slots.get(key) ?? { token: undefined, refreshAt: 0, flight: undefined }
  slots.delete(key)
  slots.set(key, slot)
  for (const oldest of slots.keys()) {
    if (slots.size <= MAX_TOKENS) break
    slots.delete(oldest)
  }
  return slot
}

/** Past half of its life a token is replaced behind the back of its user, who goes on with the old one. */
function refresh(slot: Slot, request: JwtRequest, options: JwtCacheOptions): void {
  slot.refreshAt = options.clock.now().getTime() + REFRESH_PAUSE_MS
  fetchOnce(slot, request, options).catch((error: unknown) => {
    if (options.life.aborted) return
    const code = error instanceof SpiffeError ? error.code : undefined
    if (code === 'CS_NO_IDENTITY') slot.token = undefined
    options.log.warn({ code, audience: request.audience }, 'jwt-svid not refreshed')
  })
}

function fetchOnce(slot: Slot, request: JwtRequest, options: JwtCacheOptions): Promise<OwnJwtSvid> {
  slot.flight ??= fetchInto(slot, request, options).finally(() => {
    slot.flight = undefined
  })
  return slot.flight
}

async function fetchInto(
  slot: Slot,
  request: JwtRequest,
  { fetch, clock, life }: JwtCacheOptions,
): Promise<OwnJwtSvid> {
  const expired = () =>
    new SpiffeError('CS_ENDPOINT_UNAVAILABLE', `no jwt-svid within ${FETCH_TIMEOUT_MS} ms`)
  const token = await withDeadline(
    { clock, ms: FETCH_TIMEOUT_MS, signal: life, expired },
    (signal) => fetch(request, signal),
  )
  const now = clock.now().getTime()
  if (token.expiresAt <= now) {
    throw new SpiffeError('CS_RESPONSE_INVALID', 'token has already expired')
  }
  const issuedAt = Math.min(token.issuedAt ?? now, now)
  slot.token = token
  slot.refreshAt = Math.max((issuedAt + token.expiresAt) / 2, now + REFRESH_PAUSE_MS)
  return token
}

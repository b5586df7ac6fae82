import type { JwtAlgorithm } from '../signing/signer.js'
import type { Lifetimes } from './lifetimes.js'
import type { JwtKey } from './state.js'

/** The moments of a key's life depend on these; `now` is milliseconds since 1970. */
export interface RotationMoment {
  readonly now: number
  readonly lifetimes: Lifetimes
}

export type SigningJwtKey = JwtKey & { readonly privateKey: NonNullable<JwtKey['privateKey']> }

/**
 * The key that signs now: the newest one that is active, or else, when it is too late to wait, a
 * prepared one. Both have been published. `undefined` if no key may sign.
 */
export function signingKey(
  keys: readonly JwtKey[],
  { algorithm, now }: { readonly algorithm: JwtAlgorithm; readonly now: number },
): SigningJwtKey | undefined {
  const usable = keys
    .filter((key) => key.algorithm === algorithm)
    .filter((key): key is SigningJwtKey => key.privateKey !== undefined)
    .filter((key) => key.notBefore <= now && now < key.expiresAt)
    .sort((a, b) => a.activeFrom - b.activeFrom)
  return usable.filter((key) => key.activeFrom <= now).at(-1) ?? usable[0]
}

/** Whether it is time to prepare a successor, because there is none and the key is past half its life. */
export function needsSuccessor(
  keys: readonly JwtKey[],
  { algorithm, now, lifetimes }: RotationMoment & { readonly algorithm: JwtAlgorithm },
): boolean {
  const current = signingKey(keys, { algorithm, now })
  if (current === undefined) return true
  const succeeded = keys.some(
    (key) => key.algorithm === algorithm && key.activeFrom > current.activeFrom,
  )
  const life = current.expiresAt - current.notBefore
  const left = current.expiresAt - now
  return !succeeded && left < Math.max(life / 2, lifetimes.longestJwtSvid * 1000)
}

/** When a successor made now should begin to sign: at once if nothing else can. */
export function activationOf(
  keys: readonly JwtKey[],
  { algorithm, now, lifetimes }: RotationMoment & { readonly algorithm: JwtAlgorithm },
): number {
  const current = signingKey(keys, { algorithm, now })
  if (current === undefined) return now
  const lastChance = current.expiresAt - lifetimes.longestJwtSvid * 1000
  return Math.max(now, Math.min(now + lifetimes.jwtPublishAhead * 1000, lastChance))
}

/**
 * Drops the private half of a key whose successor signs, and the whole key once the last token it can
 * have signed has expired. Gives back the same array if nothing is to be dropped.
 */
export function withoutRetired(
  keys: readonly JwtKey[],
  { now, lifetimes }: RotationMoment,
): readonly JwtKey[] {
  const kept = keys
    .map((key) => ({ key, supersededAt: supersededAt(keys, { key, now }) }))
    .filter(({ key, supersededAt }) => {
      const lastToken = supersededAt + lifetimes.longestJwtSvid * 1000
      return now < Math.min(key.expiresAt, lastToken)
    })
    .map(({ key, supersededAt }) =>
      supersededAt <= now && key.privateKey ? { ...key, privateKey: undefined } : key,
    )
  const same = kept.length === keys.length && kept.every((key, index) => key === keys[index])
  return same ? keys : kept
}

/** When the first key that follows began to sign; infinity while none has. */
function supersededAt(
  keys: readonly JwtKey[],
  { key, now }: { readonly key: JwtKey; readonly now: number },
): number {
  const successors = keys
    .filter((other) => other.algorithm === key.algorithm && other.activeFrom > key.activeFrom)
    .map(({ activeFrom }) => activeFrom)
    .filter((activeFrom) => activeFrom <= now)
  return Math.min(Number.POSITIVE_INFINITY, ...successors)
}

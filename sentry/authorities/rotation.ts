import type { Random } from '../../platform/random.js'
import type { TrustDomain } from '../../spiffe/index.js'
import type { SigningAuthority } from '../signing/certificate-builder.js'
import type { JwtAlgorithm } from '../signing/signer.js'
import { activationOf, needsSuccessor, withoutRetired } from './jwt-rotation.js'
import type { Lifetimes } from './lifetimes.js'
import { makeIssuer, makeJwtKey, makeRoot } from './make.js'
import type { AuthorityState, JwtKey } from './state.js'
import { assertValidAt, isValidAt } from './validity.js'

export interface RotationContext {
  readonly trustDomain: TrustDomain
  readonly random: Pick<Random, 'bytes'>
  readonly lifetimes: Lifetimes
  readonly now: Date
}

/** Both are kept at the same time (design, decision 2). */
export const jwtAlgorithms: readonly JwtAlgorithm[] = ['ES256', 'RS256']

/** Authorities for a trust domain that has none. */
export async function firstState(context: RotationContext): Promise<AuthorityState> {
  const { trustDomain, lifetimes } = context
  const root = await makeRoot({ ...makeOptions(context), ttl: lifetimes.rootTtl })
  const issuer = await makeIssuer({ ...makeOptions(context), ttl: lifetimes.issuerTtl }, root)
  return { trustDomain, root, issuer, jwtKeys: await withSuccessors([], context) }
}

/**
 * What the authorities should be now: the same object if nothing is due. Throws
 * `CS_AUTHORITY_NOT_VALID` when the clock is outside of the root's life.
 */
export async function nextState(
  state: AuthorityState,
  context: RotationContext,
): Promise<AuthorityState> {
  assertValidAt(context.now, { name: 'root authority', validity: state.root.certificate })
  const now = context.now.getTime()
  const issuer = await nextIssuer(state, context)
  const prepared = await withSuccessors(state.jwtKeys, context)
  const jwtKeys = withoutRetired(prepared, { now, lifetimes: context.lifetimes })
  return issuer === state.issuer && jwtKeys === state.jwtKeys
    ? state
    : { ...state, issuer, jwtKeys }
}

/**
 * A new issuer needs no announcement, since it chains to a root that everybody holds. An issuer that
 * a wrong clock has dated is replaced in the same way once the clock is right.
 */
async function nextIssuer(
  { root, issuer }: AuthorityState,
  context: RotationContext,
): Promise<SigningAuthority> {
  const { lifetimes } = context
  const now = context.now.getTime()
  const { notBefore, notAfter } = issuer.certificate
  const wanted = Math.max((notAfter - notBefore) / 2, lifetimes.longestX509Svid * 1000)
  // A successor must end later, or the last issuer under a root would be replaced for ever.
  const gains = Math.min(now + lifetimes.issuerTtl * 1000, root.certificate.notAfter) > notAfter
  const usable = isValidAt(now, issuer.certificate)
  if (usable && (notAfter - now >= wanted || !gains)) return issuer
  return makeIssuer({ ...makeOptions(context), ttl: lifetimes.issuerTtl }, root)
}

async function withSuccessors(
  keys: readonly JwtKey[],
  context: RotationContext,
): Promise<readonly JwtKey[]> {
  const { lifetimes } = context
  const now = context.now.getTime()
  const due = jwtAlgorithms.filter((algorithm) =>
    needsSuccessor(keys, { algorithm, now, lifetimes }),
  )
  if (due.length === 0) return keys
  const made = due.map((algorithm) =>
    makeJwtKey({
      ...makeOptions(context),
      algorithm,
      ttl: lifetimes.jwtTtl,
      activeFrom: activationOf(keys, { algorithm, now, lifetimes }),
    }),
  )
  return [...keys, ...(await Promise.all(made))]
}

function makeOptions({ trustDomain, random, now }: RotationContext) {
  return { trustDomain, random, now: now.getTime() }
}

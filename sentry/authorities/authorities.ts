import type { Clock } from '../../platform/clock.js'
import type { Random } from '../../platform/random.js'
import { idOfTrustDomain, type TrustBundle, type TrustDomain } from '../../spiffe/index.js'
import type { AuditSink } from '../audit/event.js'
import { SentryError } from '../errors.js'
import type { JwtAlgorithm, JwtSigner, X509Signer } from '../signing/signer.js'
import { signingKey } from './jwt-rotation.js'
import { type LifetimeSettings, type Lifetimes, settleLifetimes } from './lifetimes.js'
import { type BundleKeys, goLive, type LiveAuthorities } from './live.js'
import { phasesOf } from './phases.js'
import { firstState, nextState } from './rotation.js'
import type { AuthorityState } from './state.js'
import { readState, writeState } from './state-file.js'
import { type AuthoritiesStatus, statusOf } from './status.js'
import { assertValidAt } from './validity.js'

/** One sealed file that is replaced whole; see `platform/sealer.ts`. */
export interface AuthorityFile {
  read(): Promise<Uint8Array | undefined>
  write(plain: Uint8Array): Promise<void>
}

export interface AuthoritiesOptions extends LifetimeSettings {
  readonly trustDomain: TrustDomain
  readonly file: AuthorityFile
  readonly clock: Pick<Clock, 'now'>
  readonly random: Pick<Random, 'bytes'>
  readonly audit?: AuditSink
  /** The trust domain is not new, so a missing file is a loss and no reason to make a new CA. */
  readonly mustExist?: boolean
}

/** The keys that make identities trusted. */
export interface Authorities {
  readonly trustDomain: TrustDomain
  /** The settings in force, defaults filled in; all in seconds. */
  readonly lifetimes: Lifetimes
  readonly longestJwtSvid: number
  bundle(): TrustBundle
  bundleKeys(): BundleKeys
  /** Throws `CS_AUTHORITY_NOT_VALID`. */
  x509Signer(): X509Signer
  /** ES256 unless told otherwise. Throws `CS_AUTHORITY_NOT_VALID`. */
  jwtSigner(algorithm?: JwtAlgorithm): JwtSigner
  /**
   * To be called every now and then. Replaces what is past half its life and drops what is no longer
   * needed; if that fails, everything stays as it was. Resolves to whether anything changed.
   */
  rotateIfDue(): Promise<boolean>
  status(): AuthoritiesStatus
}

/**
 * Opens the authorities of a trust domain, or makes them at the first start. What cannot be opened is
 * left as it is: a new CA would cut off everybody who trusts the old one. Throws `CS_TTL_TOO_LONG`,
 * `CS_AUTHORITY_FILE_INVALID`, `CS_AUTHORITY_NOT_VALID`, `CS_ISSUE_CHECK_FAILED` and what the file throws.
 */
export async function openAuthorities(options: AuthoritiesOptions): Promise<Authorities> {
  const lifetimes = settleLifetimes(options)
  const held = await readHeld(options)
  const state = await stateFor({ ...options, lifetimes }, held)
  return authoritiesFrom({ ...options, lifetimes }, await publish(options, { state, before: held }))
}

type OpenOptions = AuthoritiesOptions & { readonly lifetimes: Lifetimes }

function authoritiesFrom(options: OpenOptions, first: LiveAuthorities): Authorities {
  const { trustDomain, clock, lifetimes } = options
  let live = first
  let rotating: Promise<boolean> | undefined

  const rotate = async () => {
    const before = live.state
    const state = await stateFor(options, before)
    if (state === before) return false
    live = await publish(options, { state, before })
    return true
  }
  return {
    trustDomain,
    lifetimes,
    longestJwtSvid: lifetimes.longestJwtSvid,
    bundle: () => live.bundle,
    bundleKeys: () => live.bundleKeys,
    x509Signer() {
      assertValidAt(clock.now(), { name: 'issuer authority', validity: live.x509.issuer })
      return live.x509
    },
    jwtSigner: (algorithm = 'ES256') => jwtSignerAt(clock.now(), { live, algorithm }),
    rotateIfDue: () =>
      (rotating ??= rotate().finally(() => {
        rotating = undefined
      })),
    status: () => statusOf(live.state, clock.now().getTime()),
  }
}

async function readHeld(options: AuthoritiesOptions): Promise<AuthorityState | undefined> {
  const { file, trustDomain, mustExist = false } = options
  const held = await file.read()
  if (held !== undefined) return readState(held, trustDomain)
  if (!mustExist) return undefined
  throw new SentryError(
    'CS_AUTHORITY_FILE_INVALID',
    `sealed file with the authorities of ${trustDomain} is missing`,
  )
}

function stateFor(options: OpenOptions, held: AuthorityState | undefined) {
  const { trustDomain, random, lifetimes, clock } = options
  const context = { trustDomain, random, lifetimes, now: clock.now() }
  return held === undefined ? firstState(context) : nextState(held, context)
}

/** Tries every key, then stores, and only then hands out: a key that is used is one that is kept. */
async function publish(
  { file, clock, audit }: AuthoritiesOptions,
  change: { readonly state: AuthorityState; readonly before: AuthorityState | undefined },
): Promise<LiveAuthorities> {
  const { state, before } = change
  const live = await goLive(state, clock.now())
  if (state === before) return live
  await file.write(writeState(state))
  for (const details of phasesOf({ before, after: state })) {
    audit?.record({
      type: 'ca.rotation.phase.v1',
      subject: idOfTrustDomain(state.trustDomain),
      details,
    })
  }
  return live
}

function jwtSignerAt(
  now: Date,
  { live, algorithm }: { readonly live: LiveAuthorities; readonly algorithm: JwtAlgorithm },
): JwtSigner {
  const { jwtKeys } = live.state
  const key = signingKey(jwtKeys, { algorithm, now: now.getTime() })
  const signer = key && live.jwt.get(key.keyId)
  if (signer !== undefined) return signer

  const name = `${algorithm} authority`
  const newest = jwtKeys.findLast((candidate) => candidate.algorithm === algorithm)
  if (newest !== undefined) {
    const { notBefore, expiresAt: notAfter } = newest
    assertValidAt(now, { name, validity: { notBefore, notAfter } })
  }
  throw new SentryError('CS_AUTHORITY_NOT_VALID', `there is no ${name} that signs`)
}

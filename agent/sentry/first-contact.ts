import { createHash } from 'node:crypto'
import type { Clock } from '../../platform/clock.js'
import type { Log } from '../../platform/log.js'
import type { Random } from '../../platform/random.js'
import type { Bundle } from '../../proto/gen/spire/api/types/types.js'
import type { TrustDomain } from '../../spiffe/index.js'
import { AgentError } from '../errors.js'
import { noUpdate, type Update } from '../identities/update.js'
import { within } from '../waits.js'
import { attest, type Evidence } from './attest.js'
import type { Connection } from './connection.js'
import { requestKey } from './csr.js'
import type { Dialler } from './dialling.js'
import {
  hasExpired,
  type OwnIdentity,
  type OwnIdentityStore,
  readOwnIdentity,
} from './own-identity.js'
import { inWords, skewed } from './peer.js'
import type { UpdateReader } from './read-update.js'

export interface FirstContactOptions {
  readonly trustDomain: TrustDomain
  readonly store: OwnIdentityStore
  readonly evidence: Evidence | undefined
  readonly dialAny: Dialler
  readonly read: UpdateReader
  readonly onUpdate: (update: Update) => void
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** How an agent comes by an SVID of its own that is of use. */
export interface FirstContact {
  /**
   * The SVID in hand, or a new one for evidence that has not been used yet. Throws why there is
   * neither, or what the attestation failed with.
   */
  usableIdentity(signal: AbortSignal): Promise<OwnIdentity>
  /**
   * The sentry refuses the SVID in hand; a ban takes away everything. Tells whether there is evidence
   * left to attest anew with.
   */
  refused(error: AgentError): Promise<boolean>
}

interface Shown {
  readonly shown: Evidence
  /** Tells it from other evidence without repeating it. */
  readonly shownId: string
}

const ATTEST_TIMEOUT_MS = 60_000

export function firstContact(options: FirstContactOptions): FirstContact {
  const { store, evidence, clock, log } = options
  let refusedSvid: OwnIdentity | undefined
  let rejection: Error | undefined
  /** The sentry has just issued this SVID, and by our clock it is not valid. */
  let skewedSvid: { readonly own: OwnIdentity; readonly error: AgentError } | undefined

  return {
    async usableIdentity(signal) {
      const own = store.current()
      const expired = own !== undefined && hasExpired(own, clock.now().getTime())
      if (own && !expired && own !== refusedSvid) return own
      if (rejection) throw rejection
      const fresh = unspent()
      if (fresh) return await attestNow(fresh, signal)
      if (expired) throw skewedSvid?.own === own ? skewedSvid.error : ownExpired()
      if (own) return own
      throw store.isBanned() ? banned() : evidenceMissing(evidence)
    },
    async refused(error) {
      refusedSvid = store.current()
      if (error.code === 'CS_BANNED_BY_SENTRY' && !store.isBanned()) {
        log.error({ code: error.code }, 'banned by the sentry, nothing is served any more')
        await store.wipe()
      }
      return unspent() !== undefined
    },
  }

  function unspent(): Shown | undefined {
    if (!evidence || rejection) return undefined
    const shownId = idOf(evidence)
    return store.isSpent(shownId) ? undefined : { shown: evidence, shownId }
  }

  async function attestNow(fresh: Shown, signal: AbortSignal): Promise<OwnIdentity> {
    try {
      const own = await attestOnce(options, fresh, signal)
      const error = skewOf(own, clock.now().getTime())
      if (!error) return own
      skewedSvid = { own, error }
      throw error
    } catch (error) {
      if (error instanceof AgentError && error.code === 'CS_ATTESTATION_REJECTED') rejection = error
      throw error
    }
  }
}

/** Key, request and storage are ready before the token is shown, for it can be shown only once. */
async function attestOnce(
  options: FirstContactOptions,
  { shown, shownId }: Shown,
  signal: AbortSignal,
): Promise<OwnIdentity> {
  const { store, clock, random, trustDomain, log } = options
  const key = await requestKey()
  await store.prepare()
  const connection = await options.dialAny(undefined, signal)
  try {
    const expired = () => new AgentError('CS_SENTRY_UNAVAILABLE', 'attestation took too long')
    const limits = { clock, ms: ATTEST_TIMEOUT_MS, signal, expired }
    const svid = await within(limits, (limit) =>
      attest(connection, { evidence: shown, csr: key.csr }, limit),
    )
    const now = clock.now().getTime()
    const own = readOwnIdentity(svid, { key, trustDomain, now, random })
    await store.keep(own, shownId)
    log.info({ agent: own.svid.id, sentry: connection.address }, 'attested')
    await fetchBundle(connection, options, signal)
    return own
  } finally {
    connection.close()
  }
}

/** The sentry has just signed it, so if it is not valid now the clocks differ, and it tells by how much. */
function skewOf(own: OwnIdentity, now: number): AgentError | undefined {
  const [leaf] = own.svid.chain
  const by = inWords(now - leaf.notBefore)
  if (now < leaf.notBefore)
    return skewed(`this clock is ${by} behind: the new SVID is not valid yet`)
  if (hasExpired(own, now))
    return skewed(`this clock is ${by} ahead: the new SVID has already ended`)
  return undefined
}

/** From here on only what the sentry says itself is trusted. Without it the next connection brings it. */
async function fetchBundle(
  connection: Connection,
  { read, onUpdate, log }: FirstContactOptions,
  signal: AbortSignal,
): Promise<void> {
  try {
    const bundle = await connection.call<Bundle>(
      (done) => connection.bundles.getBundle({ outputMask: undefined }, done),
      signal,
    )
    onUpdate({ ...noUpdate, bundles: read({ bundles: [bundle] }).bundles })
  } catch (error) {
    signal.throwIfAborted()
    log.debug({ reason: (error as Error).message }, 'no bundle on the first connection')
  }
}

function idOf({ type, payload }: Evidence): string {
  return createHash('sha256').update(`${type}:`).update(payload).digest('hex')
}

function ownExpired(): AgentError {
  return new AgentError('CS_OWN_SVID_EXPIRED', "the agent's own SVID has expired")
}

function banned(): AgentError {
  return new AgentError('CS_BANNED_BY_SENTRY', 'the sentry has banned this agent')
}

function evidenceMissing(evidence: Evidence | undefined): AgentError {
  const why = evidence ? 'the join token has been used already' : 'there is no join token'
  return new AgentError('CS_EVIDENCE_MISSING', `the agent has no SVID and ${why}`)
}

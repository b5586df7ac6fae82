import {
  type BundleSource,
  bundleNotFound,
  SpiffeError,
  type X509Svid,
  type X509SvidSource,
} from '../index.js'
import type { RuntimeClock } from '../runtime.js'
import { listeners } from './listeners.js'
import type { WatchListener } from './watch.js'
import type { X509Context } from './x509-messages.js'

/** Chooses among several identities; `undefined` if none of them will do. */
export type PickSvid = (svids: X509Context['svids']) => X509Svid | undefined

/** Picks by the operator's label. If it repeats, the first counts (Workload API §5.2.1). */
export function pickByHint(hint: string): PickSvid {
  return (svids) => svids.find((svid) => svid.hint === hint)
}

/** What a watch has brought last. One assignment replaces all of it, so nobody sees parts of two messages. */
export interface X509Holder extends X509SvidSource, BundleSource {
  readonly listener: WatchListener<X509Context>
  /** Throws `CS_NO_IDENTITY`. */
  context(): X509Context
  onChange(listener: () => void): () => void
  hasIdentity(): boolean
  /** What went wrong last since there was something new. */
  lastError(): SpiffeError | undefined
  close(): void
}

interface Held {
  readonly context: X509Context
  readonly svid: X509Svid | undefined
}

export function x509Holder(pick: PickSvid, clock: RuntimeClock): X509Holder {
  const changes = listeners()
  let held: Held | undefined
  let lastError: SpiffeError | undefined

  const replace = (next: Held | undefined, error?: SpiffeError) => {
    held = next
    lastError = error
    changes.tell()
  }
  const listener: WatchListener<X509Context> = {
    onUpdate(context) {
      const svid = pick(context.svids)
      replace({ context, svid }, svid ? undefined : nonePicked(context))
    },
    onWithdrawn: (error) => replace(undefined, error),
    onError(error) {
      lastError = error
    },
  }
  return {
    listener,
    onChange: (listener) => changes.add(listener),
    hasIdentity: () => held?.svid !== undefined,
    lastError: () => lastError,
    context: () => held?.context ?? nothingHeld(lastError),
    x509Svid: () => {
      const svid = held?.svid ?? nothingHeld(lastError)
      if (!(clock.now().getTime() <= svid.chain[0].notAfter)) throw expired(svid, lastError)
      return svid
    },
    bundleFor: (trustDomain) =>
      held?.context.bundles.get(trustDomain) ?? bundleNotFound(trustDomain),
    close() {
      changes.clear()
      replace(undefined, new SpiffeError('CS_NO_IDENTITY', 'source is closed'))
    },
  }
}

/** To present an expired SVID would only move the failure to the peer, which cannot say why. */
function expired({ id, chain: [leaf] }: X509Svid, cause: SpiffeError | undefined): SpiffeError {
  const since = new Date(leaf.notAfter).toISOString()
  const why = cause === undefined ? '' : `; the last trouble was: ${cause.message}`
  const message = `svid of ${id} expired at ${since}, not renewed${why}`
  return new SpiffeError('CS_SVID_EXPIRED', message, { cause })
}

function nonePicked({ svids }: X509Context): SpiffeError {
  return new SpiffeError('CS_NO_IDENTITY', `none of the ${svids.length} identities was picked`)
}

function nothingHeld(lastError: SpiffeError | undefined): never {
  const why = lastError?.message ?? 'nothing was received yet'
  throw new SpiffeError('CS_NO_IDENTITY', `no identity: ${why}`, { cause: lastError })
}

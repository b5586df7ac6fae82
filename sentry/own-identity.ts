import type { Clock } from '../platform/clock.js'
import type { X509Svid } from '../spiffe/index.js'
import type { IssuePipeline, OwnIdentityRequest } from './issue.js'

/** An SVID of the sentry itself, replaced before half of its life is over. */
export interface OwnIdentity {
  current(): X509Svid
  /** Replaces it if it is due, or at once if told to. Returns whether it did. */
  renewIfDue(options?: { readonly anyway: boolean }): boolean
}

/** Throws what issuing throws. */
export function ownIdentity(
  pipeline: IssuePipeline,
  options: OwnIdentityRequest & {
    readonly clock: Clock
    readonly onRenewed: (svid: X509Svid) => void
  },
): OwnIdentity {
  const { clock, onRenewed, ...request } = options
  let held = pipeline.signingIdentity(request)
  return {
    current: () => held,
    renewIfDue({ anyway } = { anyway: false }) {
      const [{ notBefore, notAfter }] = held.chain
      if (!anyway && clock.now().getTime() < (notBefore + notAfter) / 2) return false
      held = pipeline.signingIdentity(request)
      onRenewed(held)
      return true
    },
  }
}

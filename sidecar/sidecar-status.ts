import type { Readiness } from '../platform/admin-http.js'
import { formatHostPort } from '../platform/listen.js'
import type { SpiffeId, X509Svid } from '../spiffe/index.js'
import { currentSvid, type IdentitySource } from './identity.js'
import type { PolicyInForce, Standing } from './policy-in-force.js'
import type { FollowedPolicy } from './policy-source.js'
import type { Proxy } from './proxy.js'

export interface SidecarStatus {
  /** Null while there is no SVID that could be presented. */
  readonly identity: {
    readonly id: string
    readonly serial: string
    readonly expires_at: string
  } | null
  readonly policy: { readonly id: string; readonly generation: number } | null
  /** What came of the last snapshot that the agent sent; null until it has said anything. */
  readonly policy_standing: Standing | null
  /** Whether the agent is heard, from which changes of the policy come. */
  readonly policy_connected: boolean
  readonly tunnels: readonly {
    readonly name: string
    readonly direction: 'inbound' | 'outbound'
    readonly address: string
    readonly open: number
  }[]
  /** Open connections by the trust domain of the other side. */
  readonly peers: Readonly<Record<string, number>>
}

/** What a sidecar that has started is made of. */
export interface Running {
  /** Who it is until it ends. */
  readonly target: SpiffeId
  readonly hasInbound: boolean
  readonly identity: IdentitySource
  readonly policy: PolicyInForce
  readonly following: FollowedPolicy
  readonly proxy: Proxy
}

/** Whether callers can be served, and if not, why. */
export function readinessOf(running: Running, closing: boolean): Readiness {
  const { target, hasInbound, identity, policy } = running
  const reasons: string[] = []
  if (closing) reasons.push('stopping: takes nothing new')
  if (!currentSvid(identity)) {
    reasons.push(`CS_NO_IDENTITY: there is no valid SVID for ${target}`)
  }
  if (hasInbound && !policy.current()) {
    reasons.push('no-snapshot: no policy was ever received')
  }
  return { ready: reasons.length === 0, reasons }
}

/** What `/status` shows. */
export function statusOf({ identity, policy, following, proxy }: Running): SidecarStatus {
  const svid = currentSvid(identity)
  const current = policy.current()
  return {
    identity: svid ? identityStatus(svid) : null,
    policy: current ? { id: current.id, generation: current.generation } : null,
    policy_standing: policy.standing() ?? null,
    policy_connected: following.connected(),
    tunnels: proxy.tunnels.map(({ name, direction, address, open }) => ({
      name,
      direction,
      open,
      address: formatHostPort(address),
    })),
    peers: proxy.connections.perTrustDomain,
  }
}

function identityStatus({ id, chain: [leaf] }: X509Svid): SidecarStatus['identity'] {
  const { serialNumber: serial, notAfter } = leaf
  return { id, serial, expires_at: new Date(notAfter).toISOString() }
}

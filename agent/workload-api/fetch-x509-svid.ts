import type { AttestedCaller } from '../attestation/caller.js'
import type { Identities } from '../identities/identities.js'
import type { Entitlements } from './entitlements.js'
import type { View } from './follower.js'
import type { Messages } from './messages.js'
import { type StreamContext, streamHandler } from './streams.js'

export interface IdentityContext extends StreamContext {
  readonly identities: Identities
  readonly entitlements: Entitlements
  readonly messages: Messages
}

/** All identities of the caller with their keys and bundles (Workload API §5.2.1). */
export function fetchX509Svid(context: IdentityContext) {
  return streamHandler(context, {
    rpc: 'FetchX509SVID',
    view: (caller) => viewOf(caller, context),
  })
}

function viewOf(
  caller: AttestedCaller,
  { identities, entitlements, messages }: IdentityContext,
): View {
  const entries = entitlements.entriesOf(caller)
  return {
    message: messages.x509Svids(entries),
    missing: entries
      .filter((entry) => !identities.x509Svid(entry))
      .map((entry) => (signal: AbortSignal) => identities.whenX509Svid(entry, signal)),
    granted: () => ({ spiffeIds: entries.map(({ spiffeId }) => spiffeId) }),
  }
}

import type { AttestedCaller } from '../attestation/caller.js'
import type { IdentityContext } from './fetch-x509-svid.js'
import type { View } from './follower.js'
import { streamHandler } from './streams.js'

/** The X.509 bundles of our trust domain and of those the caller federates with (Workload API §5.2.2). */
export function fetchX509Bundles(context: IdentityContext) {
  return streamHandler(context, {
    rpc: 'FetchX509Bundles',
    view: (caller) => viewOf(caller, context),
  })
}

function viewOf(caller: AttestedCaller, { entitlements, messages }: IdentityContext): View {
  const entries = entitlements.entriesOf(caller)
  return {
    message: messages.x509Bundles(entries),
    missing: [],
    granted: () => ({ spiffeIds: entries.map(({ spiffeId }) => spiffeId) }),
  }
}

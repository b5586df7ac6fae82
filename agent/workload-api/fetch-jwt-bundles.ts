import type { AttestedCaller } from '../attestation/caller.js'
import type { IdentityContext } from './fetch-x509-svid.js'
import type { View } from './follower.js'
import { streamHandler } from './streams.js'

/** The JWT keys of our trust domain and of those the caller federates with (Workload API §6.2.2). */
export function fetchJwtBundles(context: IdentityContext) {
  return streamHandler(context, {
    rpc: 'FetchJWTBundles',
    view: (caller) => viewOf(caller, context),
  })
}

function viewOf(caller: AttestedCaller, { entitlements, messages }: IdentityContext): View {
  const entries = entitlements.entriesOf(caller)
  return {
    message: messages.jwtBundles(entries),
    missing: [],
    granted: () => ({ spiffeIds: entries.map(({ spiffeId }) => spiffeId) }),
  }
}

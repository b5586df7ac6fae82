import type { IdentityContext } from './fetch-x509-svid.js'
import { streamHandler } from './streams.js'

/** The JWT keys of our trust domain and of those the caller federates with (Workload API §6.2.2). */
export function fetchJwtBundles(context: IdentityContext) {
  const { entitlements, messages } = context
  return streamHandler(context, {
    rpc: 'FetchJWTBundles',
    view: (caller) => ({
      message: messages.jwtBundles(entitlements.entriesOf(caller)),
      missing: [],
    }),
  })
}

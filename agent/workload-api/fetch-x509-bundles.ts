import type { IdentityContext } from './fetch-x509-svid.js'
import { streamHandler } from './streams.js'

/** The X.509 bundles of our trust domain and of those the caller federates with (Workload API §5.2.2). */
export function fetchX509Bundles(context: IdentityContext) {
  const { entitlements, messages } = context
  return streamHandler(context, {
    rpc: 'FetchX509Bundles',
    view: (caller) => ({
      message: messages.x509Bundles(entitlements.entriesOf(caller)),
      missing: [],
    }),
  })
}

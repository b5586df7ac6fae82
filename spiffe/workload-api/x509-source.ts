import type { BundleSource, X509Svid, X509SvidSource } from '../index.js'
import { nodeRuntime } from '../runtime.js'
import { type WorkloadApiOptions, workloadApiClient } from './client.js'
import { surfaceFaults, whenReady } from './ready.js'
import { type PickSvid, x509Holder } from './x509-holder.js'
import type { X509Context } from './x509-messages.js'

export interface X509SourceOptions extends WorkloadApiOptions {
  /** How long opening waits for the first identity. 30 s unless given. */
  readonly readyTimeoutMs?: number
  /** Gives up opening. Once the source is open, only closing ends it. */
  readonly signal?: AbortSignal
  /** The default identity of the endpoint unless given. */
  readonly pick?: PickSvid
}

/**
 * A live identity with the bundles to judge others by, kept fresh from the Workload API. What it
 * answers comes from one and the same message. Closing it twice is the same as closing it once.
 */
export interface X509Source extends X509SvidSource, BundleSource, AsyncDisposable {
  /** Throws `CS_NO_IDENTITY` while there is none, and `CS_SVID_EXPIRED` if it was not renewed in time. */
  x509Svid(): X509Svid
  /** All identities and bundles of one message. Throws `CS_NO_IDENTITY`. */
  context(): X509Context
  /** Calls after each change, withdrawal included. Returns how to stop listening. */
  onChange(listener: () => void): () => void
  close(): Promise<void>
}

export const X509Source = {
  /**
   * Resolves when there is an identity to use, and otherwise throws why there is none:
   * `CS_SOCKET_INVALID`, `CS_SOCKET_MISSING`, `CS_SOCKET_DENIED`, `CS_ENDPOINT_UNAVAILABLE`,
   * `CS_ENDPOINT_REFUSED`, `CS_NO_IDENTITY` or `CS_RESPONSE_INVALID`.
   */
  async open(options: X509SourceOptions = {}): Promise<X509Source> {
    const { runtime = nodeRuntime, pick = ([first]) => first } = options
    const client = workloadApiClient(options)
    const holder = x509Holder(pick, runtime.clock)
    const life = new AbortController()
    const watching = client.watchX509Context(holder.listener, life.signal)
    const close = async () => {
      life.abort()
      holder.close()
      await watching.catch(() => undefined)
      client.close()
    }
    try {
      await whenReady({
        what: 'identity',
        isReady: holder.hasIdentity,
        onChange: holder.onChange,
        lastError: holder.lastError,
        watching,
        clock: runtime.clock,
        ...options,
      })
    } catch (error) {
      await close()
      throw error
    }
    surfaceFaults(watching)
    return {
      x509Svid: holder.x509Svid,
      bundleFor: holder.bundleFor,
      context: holder.context,
      onChange: holder.onChange,
      close,
      [Symbol.asyncDispose]: close,
    }
  },
}

import {
  type BundleSource,
  bundleNotFound,
  type JwtSvid,
  SpiffeError,
  verifyJwtSvid,
} from '../index.js'
import { nodeRuntime } from '../runtime.js'
import { type FetchJwtOptions, type WorkloadApiOptions, workloadApiClient } from './client.js'
import { jwtCache } from './jwt-cache.js'
import type { JwtBundles, OwnJwtSvid } from './jwt-messages.js'
import { listeners } from './listeners.js'
import { surfaceFaults, whenReady } from './ready.js'
import type { WatchListener } from './watch.js'

export interface JwtSourceOptions extends WorkloadApiOptions {
  /** How long opening waits for the first bundles. 30 s unless given. */
  readonly readyTimeoutMs?: number
  /** Gives up opening. Once the source is open, only closing ends it. */
  readonly signal?: AbortSignal
}

export interface VerifyJwtOptions {
  readonly token: string
  /** What this side is called; the token must be for one of these. */
  readonly audience: string | readonly string[]
}

/**
 * Tokens of one's own, cached per audience and renewed at half of their life, and the bundles to
 * verify those of others. Closing it twice is the same as closing it once.
 */
export interface JwtSource extends BundleSource, AsyncDisposable {
  /** The token of the default identity, or of `id`. Many callers at once cause one fetch. */
  jwtSvid(options: FetchJwtOptions): Promise<OwnJwtSvid>
  /** Verifies here, against the bundle of the subject's trust domain. Throws what `verifyJwtSvid` throws. */
  verify(options: VerifyJwtOptions): JwtSvid
  /** Calls after each change of a bundle. Returns how to stop listening. */
  onChange(listener: () => void): () => void
  close(): Promise<void>
}

export const JwtSource = {
  /** Resolves when the bundles are there, and otherwise throws why they are not, as `X509Source.open` does. */
  async open(options: JwtSourceOptions = {}): Promise<JwtSource> {
    const { runtime = nodeRuntime } = options
    const client = workloadApiClient(options)
    const life = new AbortController()
    const held = bundleHolder()
    const watching = client.watchJwtBundles(held.listener, life.signal)
    const close = async () => {
      life.abort(new SpiffeError('CS_NO_IDENTITY', 'source is closed'))
      held.close()
      await watching.catch(() => undefined)
      client.close()
    }
    try {
      await whenReady({ what: 'jwt bundle', ...held, watching, clock: runtime.clock, ...options })
    } catch (error) {
      await close()
      throw error
    }
    surfaceFaults(watching)

    const cache = jwtCache({
      clock: runtime.clock,
      log: options.log ?? { info: () => undefined, warn: () => undefined },
      life: life.signal,
      async fetch({ audience, id }, signal) {
        const [token] = await client.fetchJwtSvids({ audience, ...(id && { id }), signal })
        return token
      },
    })
    return {
      jwtSvid({ audience, id, signal }) {
        return cache.get(
          { audience: typeof audience === 'string' ? [audience] : audience, id },
          signal,
        )
      },
      verify: ({ token, audience }) =>
        verifyJwtSvid({ token, audience, bundles: held, now: runtime.clock.now() }),
      bundleFor: held.bundleFor,
      onChange: held.onChange,
      close,
      [Symbol.asyncDispose]: close,
    }
  },
}

/** The bundles of the last message, replaced as a whole. */
function bundleHolder() {
  const changes = listeners()
  let bundles: JwtBundles | undefined
  let lastError: SpiffeError | undefined
  const replace = (next: JwtBundles | undefined) => {
    bundles = next
    changes.tell()
  }
  const listener: WatchListener<JwtBundles> = {
    onUpdate: replace,
    onWithdrawn: () => replace(undefined),
    onError(error) {
      lastError = error
    },
  }
  const source: BundleSource = {
    bundleFor: (trustDomain) => bundles?.get(trustDomain) ?? bundleNotFound(trustDomain),
  }
  return {
    ...source,
    listener,
    onChange: (listener: () => void) => changes.add(listener),
    isReady: () => bundles !== undefined,
    lastError: () => lastError,
    close() {
      changes.clear()
      replace(undefined)
    },
  }
}

import {
  type Authorize,
  type BundleSource,
  type Certificate,
  type PeerVerifier,
  parseCertificate,
  peerVerifier,
} from '../../spiffe/index.js'
import { AgentError } from '../errors.js'

/** The verification of one connection, which remembers why it failed: gRPC tells only that it did. */
export interface JudgedPeer {
  readonly verifier: PeerVerifier
  remembering(authorize: Authorize): Authorize
  failure(): Error | undefined
}

export function judgePeer({ bundles }: { readonly bundles: BundleSource }): JudgedPeer {
  const inner = peerVerifier({ bundles })
  let failure: Error | undefined
  const remember = <Result>(judge: () => Result, explain = (error: Error) => error): Result => {
    try {
      return judge()
    } catch (error) {
      failure = explain(error as Error)
      throw failure
    }
  }
  return {
    verifier: {
      verify: (chain, now, usage) =>
        remember(
          () => inner.verify(chain, now, usage),
          (error) => skewIn(chain, now) ?? error,
        ),
    },
    remembering: (authorize) => (id) => remember(() => authorize(id)),
    failure: () => failure,
  }
}

/** Whether the peer's certificate is refused for its dates, which with a sentry means that a clock is wrong. */
function skewIn(chain: readonly Uint8Array[], now: Date): AgentError | undefined {
  const leaf = readable(chain[0])
  if (!leaf) return undefined
  const at = now.getTime()
  if (at < leaf.notBefore) {
    const behind = inWords(leaf.notBefore - at)
    return skewed(
      `this clock is at least ${behind} behind: the sentry's certificate is not valid yet`,
    )
  }
  if (at > leaf.notAfter) {
    const ahead = inWords(at - leaf.notAfter)
    return skewed(`this clock is ahead, or the sentry's certificate ended ${ahead} ago`)
  }
  return undefined
}

export function skewed(message: string): AgentError {
  return new AgentError('CS_CLOCK_SKEWED', message)
}

/** `59m 50s`, for people. */
export function inWords(ms: number): string {
  const seconds = Math.round(Math.abs(ms) / 1000)
  if (seconds < 60) return `${seconds}s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${seconds % 60}s`
  return `${Math.floor(seconds / 3600)}h ${Math.floor((seconds % 3600) / 60)}m`
}

function readable(der: Uint8Array | undefined): Certificate | undefined {
  try {
    return der && parseCertificate(der)
  } catch {
    return undefined
  }
}

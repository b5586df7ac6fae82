import { Server, ServerCredentials, type ServerOptions } from '@grpc/grpc-js'
import { PolicyAdminService } from '../../proto/gen/countersign/policy/v1/policy.js'
import { HealthService } from '../../proto/gen/grpc/health/v1/health.js'
import { AgentService } from '../../proto/gen/spire/api/server/agent/v1/agent.js'
import { BundleService } from '../../proto/gen/spire/api/server/bundle/v1/bundle.js'
import { EntryService } from '../../proto/gen/spire/api/server/entry/v1/entry.js'
import { SVIDService } from '../../proto/gen/spire/api/server/svid/v1/svid.js'
import { agentService } from './agent-service.js'
import { bundleService } from './bundle-service.js'
import { type CallerBook, nameOf } from './caller.js'
import type { ApiContext } from './context.js'
import { entryService } from './entry-service.js'
import { healthService } from './health-service.js'
import { type PolicyServiceOptions, policyService } from './policy-service.js'
import { type RateLimit, type RateLimiter, rateLimiter } from './rate-limit.js'
import { isDenial } from './reply.js'
import { authorizingInterceptor, type Refusal, serverCalls } from './server-calls.js'
import { svidService } from './svid-service.js'
import { encodedUpdatesService } from './updates/messages.js'
import { type FollowOptions, followUpdates } from './updates/updates-service.js'

export interface ServersOptions extends PolicyServiceOptions, Omit<FollowOptions, 'api'> {
  readonly api: ApiContext
  readonly callers: CallerBook
}

/** The services in front of the network, with and without a certificate, and of the admin socket. */
export interface Servers {
  readonly network: Server
  readonly anonymous: Server
  readonly admin: Server
  /** Tells callers to go when their calls have ended. */
  drain(): void
  destroy(): void
}

const MAX_MESSAGE_BYTES = 4 * 1024 * 1024

const limits: ServerOptions = {
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_concurrent_streams': 256,
  // A peer that is gone without a word is noticed within this and twenty seconds more.
  'grpc.keepalive_time_ms': 60_000,
  'grpc.keepalive_timeout_ms': 20_000,
  'grpc.max_connection_idle_ms': 15 * 60_000,
  'grpc.enable_channelz': 0,
}

/** All that an attestation needs: evidence, a request, and a bundle to ask for. */
const anonymousLimits: ServerOptions = {
  ...limits,
  'grpc.max_receive_message_length': 64 * 1024,
  'grpc.max_concurrent_streams': 16,
}

/** What one caller may have on record of what it may not do. */
const DENIALS: RateLimit = { perSecond: 10, maxWaitMs: 0 }

export function servers(options: ServersOptions): Servers {
  const { api, callers, authorization } = options
  const denials = rateLimiter(DENIALS, api.clock)
  const refused = (refusal: Refusal) => recordRefusal(api, { refusal, denials })
  const calls = serverCalls({ callers, log: api.log, onRefused: refused })
  const interceptors = [
    authorizingInterceptor({ callers, authorization, log: api.log, onRefused: refused }),
  ]
  const made = (serverOptions: ServerOptions) => {
    const server = new Server({ ...serverOptions, interceptors })
    server.addService(AgentService, agentService(api, calls))
    server.addService(EntryService, entryService(api, calls))
    server.addService(SVIDService, svidService(api, calls))
    server.addService(BundleService, bundleService(api, calls))
    server.addService(PolicyAdminService, policyService(options, calls))
    server.addService(encodedUpdatesService, {
      follow: calls.bidirectional((stream) => followUpdates(options, stream as never)),
    })
    return server
  }
  const network = made(limits)
  const anonymous = made(anonymousLimits)
  const admin = made(limits)
  admin.addService(HealthService, healthService(api, calls))

  return {
    network,
    anonymous,
    admin,
    drain() {
      // Its callback comes before the last call of an injected connection has ended, so nobody waits for it.
      for (const server of [network, anonymous, admin]) server.tryShutdown(() => undefined)
    },
    destroy() {
      for (const server of [network, anonymous, admin]) server.forceShutdown()
    },
  }
}

/** What a listener injects its connections with. TLS is the listener's. */
export function injectorOf(server: Server) {
  return server.createConnectionInjector(ServerCredentials.createInsecure())
}

/**
 * Who lacked a right is worth a record; what is wrong with a request is its caller's affair. Callers
 * without a name, or one that never stops, could fill the disk with records that say nothing.
 */
function recordRefusal(
  { audit, log }: ApiContext,
  { refusal, denials }: { readonly refusal: Refusal; readonly denials: RateLimiter },
): void {
  const { path, caller, code } = refusal
  const requester = nameOf(caller)
  const worthIt = isDenial(code) && caller.kind !== 'anonymous' && isWithin(denials, requester)
  log[worthIt ? 'warn' : 'debug']({ code, method: path, caller: requester }, 'call refused')
  if (!worthIt) return
  audit.record({ type: 'call.denied.v1', requester, code, details: { method: path } })
}

function isWithin(limiter: RateLimiter, key: string): boolean {
  try {
    limiter.reserve(key)
    return true
  } catch {
    return false
  }
}

import {
  Channel,
  type ChannelOptions,
  type ClientUnaryCall,
  connectivityState,
  credentials,
  type Metadata,
  type ServiceError,
} from '@grpc/grpc-js'
import type { Clock } from '../../platform/clock.js'
import { UpdatesClient } from '../../proto/gen/countersign/sentry/v1/updates.js'
import { AgentClient } from '../../proto/gen/spire/api/server/agent/v1/agent.js'
import { BundleClient } from '../../proto/gen/spire/api/server/bundle/v1/bundle.js'
import { EntryClient } from '../../proto/gen/spire/api/server/entry/v1/entry.js'
import { SVIDClient } from '../../proto/gen/spire/api/server/svid/v1/svid.js'
import { spiffeChannelCredentials } from '../../spiffe/grpc/index.js'
import {
  authorize,
  type BundleSource,
  makeSpiffeId,
  type TrustDomain,
  type X509Svid,
} from '../../spiffe/index.js'
import { AgentError } from '../errors.js'
import { onAbort, within } from '../waits.js'
import { judgePeer } from './peer.js'
import { refusalOf } from './refusal.js'

export interface DialOptions {
  /** `host:port`. */
  readonly address: string
  readonly trustDomain: TrustDomain
  /** Asked at each handshake. */
  readonly bundles: BundleSource
  /** What the agent presents; nothing while it attests. */
  readonly identity: X509Svid | undefined
  readonly clock: Clock
  /** Told the sentry's time whenever an answer carries it, in milliseconds since 1970. */
  readonly onServerTime: (time: number) => void
}

/** A TLS connection to one sentry, whose identity has been verified. */
export interface Connection {
  readonly address: string
  readonly identity: X509Svid | undefined
  readonly agents: AgentClient
  readonly bundles: BundleClient
  readonly entries: EntryClient
  readonly svids: SVIDClient
  readonly updates: UpdatesClient
  /** Makes one call. Throws `CS_SENTRY_UNAVAILABLE`, what a refusal means, or the signal's reason. */
  call<Response>(start: UnaryCall<Response>, signal: AbortSignal): Promise<Response>
  /** Takes from the headers of an answer what they tell about the sentry. */
  readonly observe: (metadata: Metadata) => void
  /** Lets running calls end. */
  close(): void
}

export type UnaryCall<Response> = (
  done: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall

const DIAL_TIMEOUT_MS = 10_000
const CALL_TIMEOUT_MS = 30_000

const channelOptions: ChannelOptions = {
  'grpc.use_local_subchannel_pool': 1,
  // Retries stay on: without a service config they are made only for calls that the sentry has not
  // looked at, which is how a request to reconnect goes unnoticed.
  'grpc.enable_http_proxy': 0,
  'grpc.service_config_disable_resolution': 1,
  // A sentry whose machine is gone sends nothing: without pings a silent stream would wait for ever.
  'grpc.keepalive_time_ms': 20_000,
  'grpc.keepalive_timeout_ms': 10_000,
}

/**
 * Connects and verifies that a sentry of our trust domain answers. Throws `CS_SENTRY_UNAVAILABLE`,
 * `CS_CLOCK_SKEWED`, or the code of what is wrong with the peer's certificate.
 */
export async function dial(options: DialOptions, signal: AbortSignal): Promise<Connection> {
  const { address, trustDomain, bundles, identity, clock } = options
  const peer = judgePeer({ bundles })
  const channel = new Channel(
    address,
    spiffeChannelCredentials({
      ...(identity && { identity: { x509Svid: () => identity } }),
      verifier: peer.verifier,
      authorize: peer.remembering(authorize.id(makeSpiffeId(trustDomain, '/spire/server'))),
      now: () => clock.now(),
    }),
    channelOptions,
  )
  const failed = () =>
    peer.failure() ?? new AgentError('CS_SENTRY_UNAVAILABLE', `no connection to sentry ${address}`)
  try {
    await within({ clock, ms: DIAL_TIMEOUT_MS, signal, expired: failed }, async () => {
      if (!(await connected(channel))) throw failed()
    })
  } catch (error) {
    channel.close()
    throw error
  }
  return connectionOn(channel, options)
}

/** Whether the first attempt ends in a connection. The channel itself would go on trying for ever. */
async function connected(channel: Channel): Promise<boolean> {
  for (;;) {
    const state = channel.getConnectivityState(true)
    if (state === connectivityState.READY) return true
    if (state === connectivityState.TRANSIENT_FAILURE) return false
    if (state === connectivityState.SHUTDOWN) return false
    await new Promise<void>((resolve) => {
      channel.watchConnectivityState(state, Number.POSITIVE_INFINITY, () => resolve())
    })
  }
}

function connectionOn(
  channel: Channel,
  { address, identity, clock, onServerTime }: DialOptions,
): Connection {
  // The channel brings its own credentials; the clients want some all the same.
  const on = [address, credentials.createInsecure(), { channelOverride: channel }] as const
  const observe = (metadata: Metadata) => {
    const time = Date.parse(String(metadata.get('date')[0]))
    if (Number.isFinite(time)) onServerTime(time)
  }
  const expired = () => new AgentError('CS_SENTRY_UNAVAILABLE', `sentry ${address} does not answer`)
  return {
    address,
    identity,
    agents: new AgentClient(...on),
    bundles: new BundleClient(...on),
    entries: new EntryClient(...on),
    svids: new SVIDClient(...on),
    updates: new UpdatesClient(...on),
    call: (start, signal) =>
      within({ clock, ms: CALL_TIMEOUT_MS, signal, expired }, (limit) =>
        callOnce(start, { observe, signal: limit }),
      ),
    observe,
    close: () => channel.close(),
  }
}

async function callOnce<Response>(
  start: UnaryCall<Response>,
  options: { readonly observe: (metadata: Metadata) => void; readonly signal: AbortSignal },
): Promise<Response> {
  let cancel = () => {}
  using _ = onAbort(options.signal, () => cancel())
  return await new Promise<Response>((resolve, reject) => {
    const call = start((error, response) => (error ? reject(refusalOf(error)) : resolve(response)))
    call.on('metadata', options.observe)
    cancel = () => call.cancel()
  })
}

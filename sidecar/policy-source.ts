import { type ClientDuplexStream, credentials, Metadata, status } from '@grpc/grpc-js'
import { exponentialBackoff } from '../platform/backoff.js'
import type { Clock } from '../platform/clock.js'
import type { Log } from '../platform/log.js'
import type { Random } from '../platform/random.js'
import {
  type FollowPolicyRequest,
  type FollowPolicyResponse,
  SidecarClient,
} from '../proto/gen/countersign/agent/v1/local.js'
import type { SpiffeId } from '../spiffe/index.js'
import { type EndpointAddress, grpcTarget } from '../spiffe/workload-api/index.js'
import type { PolicyInForce } from './policy-in-force.js'

export interface FollowPolicyOptions {
  readonly address: EndpointAddress
  readonly target: SpiffeId
  readonly instance: string
  /** Takes the snapshots, and says what became of them. */
  readonly policy: Pick<PolicyInForce, 'take' | 'report' | 'onReport'>
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** The policy stream of the agent, followed until it is closed. */
export interface FollowedPolicy extends AsyncDisposable {
  /** Whether the agent is heard at the moment. */
  connected(): boolean
  /** Why it is not, as far as it is known. */
  fault(): string | undefined
}

const FIRST_WAIT_MS = 100
const MAX_WAIT_MS = 5000
/** After a stream that ends sooner the waits go on growing, or a sick agent would be hammered. */
const BRIEF_STREAM_NS = 1_000_000_000n
/** A snapshot is at most 64 MiB; the agent is on this machine. */
const MAX_MESSAGE_BYTES = 80 * 2 ** 20

/** Follows the policy of one target on the socket of the Workload API, through every restart of the agent. */
export function followPolicy(options: FollowPolicyOptions): FollowedPolicy {
  const { clock, random, log } = options
  const life = new AbortController()
  const backoff = exponentialBackoff({ firstMs: FIRST_WAIT_MS, maxMs: MAX_WAIT_MS, random })
  let connected = false
  let fault: string | undefined

  const onMessage = () => {
    if (!connected) log.info({}, 'policy stream is open')
    connected = true
    fault = undefined
  }
  const onEnd = (reason: string) => {
    const level = reason === fault ? 'debug' : 'warn'
    log[level]({ code: 'CS_POLICY_UNAVAILABLE', reason }, 'policy stream ended')
    connected = false
    fault = reason
  }
  const run = async () => {
    while (!life.signal.aborted) {
      const began = clock.hrtime()
      const reason = await followOnce(options, { signal: life.signal, onMessage })
      if (life.signal.aborted) break
      onEnd(reason)
      if (clock.hrtime() - began > BRIEF_STREAM_NS) backoff.reset()
      await clock.sleep(backoff.nextMs(), life.signal).catch(() => undefined)
    }
    connected = false
  }
  const running = run()
  return {
    connected: () => connected,
    fault: () => fault,
    async [Symbol.asyncDispose]() {
      life.abort()
      await running
    },
  }
}

type PolicyStream = ClientDuplexStream<FollowPolicyRequest, FollowPolicyResponse>

interface Following {
  readonly signal: AbortSignal
  readonly onMessage: () => void
}

/** One stream from its start to its end. Resolves with why it ended; never rejects. */
async function followOnce(options: FollowPolicyOptions, following: Following): Promise<string> {
  const client = clientFor(options.address)
  const stream: PolicyStream = client.followPolicy(securityMetadata())
  const cancel = () => stream.cancel()
  following.signal.addEventListener('abort', cancel, { once: true })
  const stopReports = options.policy.onReport(reportsTo(stream, options))
  try {
    return await conversation(options, { stream, ...following })
  } finally {
    stopReports()
    following.signal.removeEventListener('abort', cancel)
    client.close()
  }
}

/** A client of its own for each stream: a used one would dial again by a clock of its own. */
function clientFor(address: EndpointAddress): SidecarClient {
  return new SidecarClient(grpcTarget(address), credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_retries': 0,
    'grpc.enable_http_proxy': 0,
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    // An agent that hangs must not pass for one that has no news.
    'grpc.keepalive_time_ms': 20_000,
    'grpc.keepalive_timeout_ms': 10_000,
  })
}

function conversation(
  { target, instance, policy }: FollowPolicyOptions,
  { stream, signal, onMessage }: Following & { readonly stream: PolicyStream },
): Promise<string> {
  return new Promise((resolve) => {
    // The status says the same; without a listener an error would end the process.
    stream.on('error', () => undefined)
    stream.on('status', ({ code, details }) =>
      resolve(code === status.OK ? 'the agent ended it' : `${status[code]}: ${details}`),
    )
    stream.on('data', ({ snapshot }: FollowPolicyResponse) => {
      if (signal.aborted) return
      onMessage()
      policy.take(snapshot)
    })
    stream.write({ step: { $case: 'start', value: { target, instance } } })
  })
}

/** Writes the last report. While the agent does not read, one waits and later ones take its place. */
function reportsTo(stream: PolicyStream, { policy }: FollowPolicyOptions): () => void {
  let writing = false
  let changed = false
  const send = () => {
    changed = writing
    const report = policy.report()
    if (writing || !report) return
    writing = true
    stream.write({ step: { $case: 'report', value: report } }, () => {
      writing = false
      if (changed) send()
    })
  }
  return send
}

function securityMetadata(): Metadata {
  const metadata = new Metadata()
  metadata.set('workload.spiffe.io', 'true')
  return metadata
}

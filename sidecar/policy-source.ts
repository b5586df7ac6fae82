import {
  type ClientDuplexStream,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js'
import { exponentialBackoff } from '../platform/backoff.js'
import type { Clock } from '../platform/clock.js'
import type { Log } from '../platform/log.js'
import type { Random } from '../platform/random.js'
import {
  type FollowPolicyRequest,
  type FollowPolicyResponse,
  SidecarClient,
} from '../proto/gen/countersign/agent/v1/local.js'
import type { SignedSnapshot, SnapshotReport } from '../proto/gen/countersign/policy/v1/policy.js'
import type { SpiffeId } from '../spiffe/index.js'
import { type EndpointAddress, grpcTarget } from '../spiffe/workload-api/index.js'

export interface FollowPolicyOptions {
  readonly address: EndpointAddress
  readonly target: SpiffeId
  readonly instance: string
  /** Takes a snapshot and says what became of it. */
  readonly take: (signed: SignedSnapshot) => Promise<SnapshotReport>
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** The policy stream of the agent, followed until it is closed. */
export interface FollowedPolicy extends AsyncDisposable {
  /** Whether the agent is heard at the moment. */
  connected(): boolean
}

const FIRST_WAIT_MS = 100
const MAX_WAIT_MS = 5000
/** A snapshot is at most 64 MiB; the agent is on this machine. */
const MAX_MESSAGE_BYTES = 80 * 2 ** 20

/** Follows the policy of one target on the socket of the Workload API, through every restart of the agent. */
export function followPolicy(options: FollowPolicyOptions): FollowedPolicy {
  const { clock, random, log } = options
  const life = new AbortController()
  const backoff = exponentialBackoff({ firstMs: FIRST_WAIT_MS, maxMs: MAX_WAIT_MS, random })
  let connected = false

  const run = async () => {
    while (!life.signal.aborted) {
      const ended = await followOnce(options, life.signal, () => {
        connected = true
        backoff.reset()
      })
      connected = false
      if (life.signal.aborted) return
      log.warn({ code: 'CS_POLICY_UNAVAILABLE', reason: ended }, 'policy stream ended')
      await clock.sleep(backoff.nextMs(), life.signal).catch(() => undefined)
    }
  }
  const running = run()
  return {
    connected: () => connected,
    async [Symbol.asyncDispose]() {
      life.abort()
      await running
    },
  }
}

type PolicyStream = ClientDuplexStream<FollowPolicyRequest, FollowPolicyResponse>

/** One stream from its start to its end. Resolves with why it ended; never rejects. */
async function followOnce(
  options: FollowPolicyOptions,
  signal: AbortSignal,
  onMessage: () => void,
): Promise<string> {
  const client = new SidecarClient(grpcTarget(options.address), credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_retries': 0,
    'grpc.enable_http_proxy': 0,
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  })
  const stream = client.followPolicy(securityMetadata())
  const cancel = () => stream.cancel()
  signal.addEventListener('abort', cancel, { once: true })
  try {
    return await conversation(options, stream, onMessage)
  } finally {
    signal.removeEventListener('abort', cancel)
    client.close()
  }
}

async function conversation(
  { target, instance, take }: FollowPolicyOptions,
  stream: PolicyStream,
  onMessage: () => void,
): Promise<string> {
  // The iterator below reports the same error; without a listener it would end the process.
  stream.on('error', () => undefined)
  stream.write({ step: { $case: 'start', value: { target, instance } } })
  try {
    for await (const message of stream) {
      onMessage()
      const { snapshot } = message as FollowPolicyResponse
      if (snapshot) stream.write({ step: { $case: 'report', value: await take(snapshot) } })
    }
    return 'the agent ended it'
  } catch (error) {
    return wordsFor(error)
  }
}

function wordsFor(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  const { code, details } = error as Partial<ServiceError>
  return code === undefined ? error.message : `${status[code]}: ${details ?? ''}`
}

function securityMetadata(): Metadata {
  const metadata = new Metadata()
  metadata.set('workload.spiffe.io', 'true')
  return metadata
}

import type { handleBidiStreamingCall, ServerDuplexStream } from '@grpc/grpc-js'
import {
  type FollowPolicyRequest,
  FollowPolicyResponse,
  type FollowPolicyStart,
  SidecarService,
} from '../../proto/gen/countersign/agent/v1/local.js'
import type { SnapshotReport } from '../../proto/gen/countersign/policy/v1/policy.js'
import { SpiffeError, type SpiffeId } from '../../spiffe/index.js'
import type { AttestedCaller } from '../attestation/caller.js'
import { AgentError } from '../errors.js'
import type { Connection } from '../workload-api/connections.js'
import type { IdentityContext } from '../workload-api/fetch-x509-svid.js'
import type { Follower, View } from '../workload-api/follower.js'
import type { LocalService } from '../workload-api/local-server.js'
import { replyFor } from '../workload-api/replies.js'
import { streamSink } from '../workload-api/stream-sink.js'
import { openStream, refuseOnThrow } from '../workload-api/streams.js'

type FollowCall = ServerDuplexStream<FollowPolicyRequest, Buffer>

const RPC = 'FollowPolicy'
const MAX_WORD_BYTES = 256
const STATES: readonly string[] = ['current', 'stale', 'incompatible', 'invalid']

/** Policy for sidecars on the socket they have their identity from. */
export function sidecarService(context: IdentityContext): LocalService {
  const { followPolicy } = SidecarService
  return {
    definition: {
      followPolicy: { ...followPolicy, responseSerialize: (bytes: Buffer) => bytes },
    },
    handlers: { followPolicy: followPolicyHandler(context) },
  }
}

function followPolicyHandler(
  context: IdentityContext,
): handleBidiStreamingCall<FollowPolicyRequest, Buffer> {
  const reporters = new Map<string, object>()
  return (call) => {
    refuseOnThrow(context, { rpc: RPC, call }, (connection) => {
      const stream = policyStream({ ...context, call, connection, reporters })
      call.on('data', (message: FollowPolicyRequest) => {
        // One after the other; what comes meanwhile waits with the sender.
        call.pause()
        void stream.take(message).then(() => call.resume())
      })
    })
  }
}

interface PolicyStreamOptions extends IdentityContext {
  readonly call: FollowCall
  readonly connection: Connection
  /** Which stream speaks for an instance of a target: the one that was opened last. */
  readonly reporters: Map<string, object>
}

interface Followed {
  readonly target: SpiffeId
  readonly instance: string
  readonly stream: Follower
  /** Whether no later stream speaks for the instance. */
  readonly speaks: () => boolean
}

function policyStream(options: PolicyStreamOptions) {
  const { connection, call, journal, identities } = options
  const sink = streamSink(call)
  let followed: Followed | undefined

  const take = async ({ step }: FollowPolicyRequest) => {
    const caller = await connection.caller.attest(sink.over)
    if (step?.$case === 'start' && !followed) {
      followed = start(step.value, caller, options)
    } else if (step?.$case === 'report' && followed) {
      assertEntitled(followed.target, caller, options)
      const report = checkedReport(step.value, followed)
      // What a stream reports is forgotten when it ends, but only if it is the one that speaks.
      if (followed.speaks()) identities.report(report)
    } else {
      throw malformed('stream must begin with one start, and only reports may follow')
    }
  }
  return {
    async take(message: FollowPolicyRequest) {
      try {
        await take(message)
      } catch (error) {
        if (sink.over.aborted) return
        if (followed) return followed.stream.end(error)
        journal.refused({ rpc: RPC, connection }, error)
        sink.end(replyFor(error))
      }
    },
  }
}

function start(
  { target: wanted, instance }: FollowPolicyStart,
  caller: AttestedCaller,
  options: PolicyStreamOptions,
): Followed {
  assertWord(instance)
  if (instance === '') throw malformed('start names no instance')
  const target = targetOf(wanted, caller, options)
  const { call, connection, reporters, identities } = options
  const stream = openStream(options, {
    rpc: RPC,
    call,
    connection,
    view: (present) => viewOf(target, present, options),
  })
  const key = JSON.stringify([target, instance])
  reporters.set(key, stream)
  const speaks = () => reporters.get(key) === stream
  stream.over.addEventListener('abort', () => {
    if (!speaks()) return
    reporters.delete(key)
    identities.forgetReport(target, instance)
  })
  return { target, instance, stream, speaks }
}

function targetOf(
  wanted: string,
  caller: AttestedCaller,
  { entitlements }: PolicyStreamOptions,
): SpiffeId {
  const entries = entitlements.entriesOf(caller)
  const entry = wanted === '' ? entries[0] : entries.find(({ spiffeId }) => spiffeId === wanted)
  if (!entry) throw notEntitled()
  return entry.spiffeId
}

function viewOf(target: SpiffeId, caller: AttestedCaller, options: PolicyStreamOptions): View {
  assertEntitled(target, caller, options)
  const snapshot = options.identities.snapshot(target)
  const message = options.messages.madeOf({
    label: 'policy',
    parts: snapshot ? [snapshot] : [],
    encode: () => FollowPolicyResponse.encode({ snapshot }).finish(),
  })
  return { message, missing: [], granted: () => ({ target, snapshot: snapshot !== undefined }) }
}

function assertEntitled(
  target: SpiffeId,
  caller: AttestedCaller,
  { entitlements }: PolicyStreamOptions,
): void {
  if (!entitlements.entriesOf(caller).some(({ spiffeId }) => spiffeId === target)) {
    throw notEntitled()
  }
}

function checkedReport(report: SnapshotReport, { target, instance }: Followed): SnapshotReport {
  if (report.target !== target || report.instance !== instance) {
    throw malformed('report is about another target or instance than the stream')
  }
  if (!STATES.includes(report.state)) throw malformed('report has a state that is none')
  assertWord(report.snapshotId)
  assertWord(report.code)
  return report
}

function assertWord(word: string): void {
  if (Buffer.byteLength(word) > MAX_WORD_BYTES) throw malformed('a field is too long')
}

const malformed = (message: string) => new AgentError('CS_FOLLOW_MALFORMED', message)
const notEntitled = () =>
  new SpiffeError('CS_NO_IDENTITY', 'caller does not have the identity whose policy it asks for')

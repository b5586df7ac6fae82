import type {
  Acknowledgement,
  FollowRequest,
} from '../../../proto/gen/countersign/sentry/v1/updates.js'
import { type PresentedSvid, setAgentVersion } from '../../attestation/agents.js'
import { SentryError } from '../../errors.js'
import type { ReportBook, Reporter } from '../../policy/reports.js'
import { turns } from '../../turns.js'
import { type ApiContext, agentIdOf } from '../context.js'
import { within } from '../deadline.js'
import type { Conversation } from '../server-calls.js'
import { type Follower, type FollowerOptions, follower } from './follower.js'
import { isEmptyChange } from './held-state.js'
import type { UpdatesHub } from './hub.js'
import { type EncodedResponse, encodeChange } from './messages.js'

export type FollowStream = Conversation<FollowRequest, EncodedResponse>

export interface FollowOptions extends FollowerOptions {
  readonly api: ApiContext
  readonly hub: UpdatesHub
  readonly reports: ReportBook
}

const START_TIMEOUT_MS = 30_000
const MAX_VERSION_BYTES = 255

/** When what was sent last came to be, until the agent acknowledges it. */
interface Unacknowledged {
  sequence: number
  changedAt: number | undefined
}

/**
 * First the whole state, then what changes of it, at once and for as long as the agent may have it. What
 * changes faster than the agent reads is sent in one.
 */
export async function followUpdates(options: FollowOptions, stream: FollowStream): Promise<void> {
  const { hub, reports, api } = options
  const agent = presentedBy(stream)
  await api.limits.take('read', stream)
  await begin(api, { stream, agent })
  const one = follower(agent, options)
  const reporter = reports.enter(agent.id)
  const sent: Unacknowledged = { sequence: 0, changedAt: undefined }
  const over = new AbortController()
  hub.enter(one)
  try {
    await Promise.race([
      pushChanges(options, { stream, one, sent }),
      takeAcknowledgements(options, { stream, reporter, sent }),
      expiry(api, { agent, signal: over.signal }),
    ])
  } finally {
    over.abort()
    hub.leave(one)
    reporter.leave()
    one.end()
  }
}

async function begin(
  { clock, datastore, stopping }: ApiContext,
  { stream, agent }: { readonly stream: FollowStream; readonly agent: PresentedSvid },
): Promise<void> {
  const late = () => invalid('no start within the time for it')
  const first = await within(
    { clock, ms: START_TIMEOUT_MS, signals: [stream.signal, stopping], late },
    stream.read(),
  )
  if (first?.step?.$case !== 'start') throw invalid('the first message must be a start')
  const { agentVersion } = first.step.value
  if (Buffer.byteLength(agentVersion) > MAX_VERSION_BYTES) throw invalid('version is too long')
  if (agentVersion !== '') {
    await datastore.write((draft) => setAgentVersion(draft, agent.id, agentVersion))
  }
}

async function pushChanges(
  { datastore, api }: FollowOptions,
  following: {
    readonly stream: FollowStream
    readonly one: Follower
    readonly sent: Unacknowledged
  },
): Promise<void> {
  const { stream, one, sent } = following
  const onOversize = ({ bytes }: { readonly bytes: number }) =>
    api.log.error({ agent: one.agent.id, bytes }, 'update is too large to be sent')
  for (let full = true; await one.marked(); full = false) {
    const { sequence, changedAt } = datastore
    const change = one.takeChange()
    if (!full && isEmptyChange(change)) continue
    const encoding = { sequence, full, onOversize, turns: turns(api.clock) }
    for await (const message of encodeChange(change, encoding)) {
      await stream.write(message)
    }
    sent.sequence = sequence
    if (!full && change.entries.length > 0) sent.changedAt = changedAt
  }
}

async function takeAcknowledgements(
  { api }: FollowOptions,
  following: {
    readonly stream: FollowStream
    readonly reporter: Reporter
    readonly sent: Unacknowledged
  },
): Promise<void> {
  const { stream, reporter, sent } = following
  for (let said = await stream.read(); said; said = await stream.read()) {
    if (said.step?.$case !== 'acknowledgement') throw invalid('only one start is allowed')
    const acknowledgement: Acknowledgement = said.step.value
    reporter.report(acknowledgement.reports)
    if (sent.changedAt !== undefined && acknowledgement.sequence >= BigInt(sent.sequence)) {
      api.metrics.propagated((api.clock.now().getTime() - sent.changedAt) / 1000)
      sent.changedAt = undefined
    }
  }
}

/** A certificate that ends while its stream is open ends the stream. */
async function expiry(
  { clock }: ApiContext,
  { agent, signal }: { readonly agent: PresentedSvid; readonly signal: AbortSignal },
): Promise<never> {
  await clock.sleep(agent.notAfter - clock.now().getTime(), signal)
  throw new SentryError('CS_AGENT_EXPIRED', 'agent SVID has expired')
}

function presentedBy({ caller }: FollowStream): PresentedSvid {
  const id = agentIdOf(caller)
  if (caller.kind !== 'identified') throw new SentryError('CS_INTERNAL', 'caller has no leaf')
  const { serialNumber, notAfter } = caller.leaf
  return { id, serialNumber, notAfter }
}

function invalid(message: string): SentryError {
  return new SentryError('CS_REQUEST_INVALID', message)
}

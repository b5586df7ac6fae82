import { HealthClient } from '../../proto/gen/grpc/health/v1/health.js'
import { AgentClient } from '../../proto/gen/spire/api/server/agent/v1/agent.js'
import { BundleClient } from '../../proto/gen/spire/api/server/bundle/v1/bundle.js'
import { type AgentDiagnosis, agentDiagnosis } from '../agent-client.js'
import type { CliContext } from '../context.js'
import { durationWords, relativeTime } from '../output.js'
import { countText } from '../policy/document-text.js'
import { ask, sentryClient } from '../sentry-client.js'
import { idText } from '../spire-types.js'
import { bundleFromWire } from '../wire-bundle.js'
import { type Finding, failed, passed } from './check.js'

const SERVING = 1
const ROOT_WARNING_MS = 60 * 86_400_000
/** A certificate's start is set back by ten seconds; a start later than this shows a clock that is behind. */
const CLOCK_TOLERANCE_MS = 5000
const ASK_TIMEOUT_MS = 5000

export function checkNode(version: string): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const supported = major > 20 || (major === 20 && minor >= 19)
  return supported
    ? passed('CS_CHECK_NODE_VERSION', `Node ${version}`)
    : failed('CS_CHECK_NODE_VERSION', `Node ${version} is older than 20.19`)
}

/** Asks the sentry on its admin socket how it and its agents are. */
export async function checkSentry(
  socket: string | undefined,
  context: CliContext,
): Promise<Finding[]> {
  const health = sentryClient(HealthClient, socket)
  try {
    const { status } = await ask(health, 'check', {
      request: { service: '' },
      context,
      timeoutMs: ASK_TIMEOUT_MS,
    })
    if (status !== SERVING)
      return [failed('CS_CHECK_SENTRY', 'the sentry answers that it is not serving')]
    const details = await Promise.all([checkRoots(socket, context), checkAgents(socket, context)])
    return [passed('CS_CHECK_SENTRY', 'the sentry is serving'), ...details.flat()]
  } catch (error) {
    return [failed('CS_CHECK_SENTRY', error instanceof Error ? error.message : String(error))]
  } finally {
    health.close()
  }
}

async function checkRoots(socket: string | undefined, context: CliContext): Promise<Finding[]> {
  const client = sentryClient(BundleClient, socket)
  const { x509Authorities } = bundleFromWire(
    await ask(client, 'getBundle', { request: { outputMask: undefined }, context }),
  )
  client.close()
  const now = context.now()
  const last = Math.max(0, ...x509Authorities.map(({ notAfter }) => notAfter))
  const first = Math.min(...x509Authorities.map(({ notBefore }) => notBefore))
  const expiry = last - now.getTime() > ROOT_WARNING_MS ? passed : failed
  return [
    expiry(
      'CS_CHECK_ROOT_EXPIRY',
      `${countText(x509Authorities.length, 'root certificate')}, the last expires ${relativeTime(last, now)}`,
    ),
    checkClock(first, now, 'the first root'),
  ]
}

function checkClock(notBefore: number, now: Date, whose: string): Finding {
  const ahead = notBefore - now.getTime()
  return ahead > CLOCK_TOLERANCE_MS
    ? failed(
        'CS_CHECK_CLOCK',
        `${whose} begins ${durationWords(ahead)} from now: this clock is at least that far behind`,
      )
    : passed('CS_CHECK_CLOCK', `the clock is not behind ${whose}`)
}

async function checkAgents(socket: string | undefined, context: CliContext): Promise<Finding[]> {
  const client = sentryClient(AgentClient, socket)
  const { agents } = await ask(client, 'listAgents', {
    request: { filter: undefined, outputMask: undefined, pageSize: 0, pageToken: '' },
    context,
  })
  client.close()
  if (agents.length === 0) return [failed('CS_CHECK_AGENTS', 'no agent is attested')]
  const seconds = context.now().getTime() / 1000
  const unwell = agents.filter(
    ({ banned, x509svidExpiresAt }) => banned || Number(x509svidExpiresAt) < seconds,
  )
  if (unwell.length === 0)
    return [passed('CS_CHECK_AGENTS', countText(agents.length, 'attested agent'))]
  return unwell.map(({ id, banned }) =>
    failed('CS_CHECK_AGENTS', `${idText(id)} ${banned ? 'is banned' : 'has let its SVID expire'}`),
  )
}

/** Asks the agent on its socket how it is, and whether this process would get an identity. */
export async function checkAgent(socket: string, context: CliContext): Promise<Finding[]> {
  const diagnosis = agentDiagnosis(socket)
  try {
    return [...(await checkAgentState(diagnosis, context)), await checkIdentity(diagnosis)]
  } catch (error) {
    return [failed('CS_CHECK_AGENT', error instanceof Error ? error.message : String(error))]
  } finally {
    diagnosis.close()
  }
}

async function checkAgentState(diagnosis: AgentDiagnosis, context: CliContext): Promise<Finding[]> {
  const status = await diagnosis.status()
  const now = context.now()
  const expires = Number(status.svidExpiresAt) * 1000
  const own = expires > now.getTime() ? passed : failed
  const synced =
    status.lastSyncAt === 0n ? 'never' : relativeTime(Number(status.lastSyncAt) * 1000, now)
  return [
    own(
      'CS_CHECK_AGENT',
      `${status.agentId || 'the agent'}: own SVID expires ${relativeTime(expires, now)}, ${status.x509Svids} SVIDs for ${status.entries} entries`,
    ),
    (status.connected ? passed : failed)(
      'CS_CHECK_AGENT_SYNC',
      `${status.connected ? 'connected' : 'not connected'}, last heard from the sentry ${synced}`,
    ),
  ]
}

async function checkIdentity(diagnosis: AgentDiagnosis): Promise<Finding> {
  const { code, candidates, explanation } = await diagnosis.explainIdentity(0)
  const matching = candidates.filter(({ matches }) => matches).map(({ spiffeId }) => spiffeId)
  return code === ''
    ? passed('CS_CHECK_IDENTITY', `this process is ${matching.join(', ')}`)
    : failed('CS_CHECK_IDENTITY', explanation)
}

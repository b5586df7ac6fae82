import type {
  AttestAgentRequest,
  AttestAgentResponse,
} from '../../proto/gen/spire/api/server/agent/v1/agent.js'
import { makeSpiffeId } from '../../spiffe/index.js'
import { recordAttestation } from '../attestation/agents.js'
import type { AttestedNode, Attestor } from '../attestation/attestor.js'
import { proveKeyPossession } from '../csr.js'
import { SentryError } from '../errors.js'
import type { IssuedX509 } from '../issue.js'
import { nameOf } from './caller.js'
import type { ApiContext } from './context.js'
import { assertNothingElse } from './csr-names.js'
import { within } from './deadline.js'
import { RateLimitError } from './rate-limit.js'
import { codeOf } from './reply.js'
import type { Conversation } from './server-calls.js'
import { svidToWire } from './wire/agent.js'
import { prefixed } from './wire/prefixed.js'

type Attestation = Conversation<AttestAgentRequest, AttestAgentResponse>

/** Nobody has proven anything yet, so nobody may keep us waiting for long. */
const STEP_TIMEOUT_MS = 30_000

interface Evidence {
  readonly type: string
  readonly payload: Uint8Array
  readonly csr: Uint8Array
}

/** One attestation: evidence, perhaps a challenge, and an SVID for the agent or a refusal. */
export async function attestAgent(context: ApiContext, stream: Attestation): Promise<void> {
  let attestor = 'unknown'
  try {
    await context.limits.take('attest', stream)
    const evidence = evidenceIn(await nextMessage(context, stream))
    const found = attestorFor(context, evidence.type)
    attestor = found.type
    const { svid, reattestable } = await admit(context, { evidence, attestor: found, stream })
    const result = { svid: svidToWire(svid), reattestable }
    await context.audit.settled()
    await stream.write({ step: { $case: 'result', value: result } })
  } catch (error) {
    refused(context, { error, attestor, requester: nameOf(stream.caller) })
    throw error
  }
}

async function admit(
  context: ApiContext,
  attempt: {
    readonly evidence: Evidence
    readonly attestor: Attestor
    readonly stream: Attestation
  },
): Promise<{ readonly svid: IssuedX509; readonly reattestable: boolean }> {
  const { evidence, attestor, stream } = attempt
  const node = await attestor.attest(evidence.payload, (challenge) =>
    ask(context, { stream, challenge }),
  )
  if (node.agentId === makeSpiffeId(context.trustDomain, '/spire/server')) {
    throw new SentryError('CS_INTERNAL', 'agent ID cannot collide with the server ID')
  }
  const svid = await enrol(context, { node, evidence })
  const { agentId: subject } = node
  const details = { attestor: attestor.type, serialNumber: svid.serialNumber }
  context.audit.record({ type: 'agent.attested.v1', subject, requester: subject, details })
  context.log.info({ agent: subject, attestor: attestor.type }, 'agent attested')
  return { svid, reattestable: node.canReattest }
}

/** The evidence is used up, the SVID signed and the agent recorded in one write, or none of it. */
async function enrol(
  { datastore, pipeline, lifetimes }: ApiContext,
  { node, evidence }: { readonly node: AttestedNode; readonly evidence: Evidence },
): Promise<IssuedX509> {
  const { agentId: id } = node
  const key = prefixed('failed to parse CSR', () => proveKeyPossession(evidence.csr))
  assertNothingElse(evidence.csr, { id, dnsNames: [] })
  let svid: IssuedX509 | undefined
  await datastore.write((draft) => {
    recordAttestation(draft, {
      node,
      attestationType: evidence.type,
      issue: () => {
        const ttlSeconds = lifetimes.agentSvid
        svid = pipeline.x509({ key, id, dnsNames: [], ttlSeconds, requester: id })
        return svid
      },
    })
  })
  if (!svid) throw new SentryError('CS_INTERNAL', 'attestation was recorded without an SVID')
  return svid
}

function evidenceIn(message: AttestAgentRequest | undefined): Evidence {
  if (!message) {
    throw invalid('failed to receive request from stream: the stream ended')
  }
  if (message.step?.$case !== 'params') throw invalid('malformed param: missing params')
  const { data, params } = message.step.value
  if (!data) throw invalid('malformed param: missing attestation data')
  if (!params) throw invalid('malformed param: missing X509-SVID parameters')
  if (params.csr.length === 0) throw invalid('malformed param: missing CSR')
  if (data.type === '') throw invalid('malformed param: missing attestation data type')
  if (data.payload.length === 0) throw invalid('malformed param: missing attestation data payload')
  return { type: data.type, payload: data.payload, csr: params.csr }
}

function attestorFor({ attestors }: ApiContext, type: string): Attestor {
  const attestor = attestors.get(type)
  if (attestor) return attestor
  const shown = type.slice(0, 64)
  throw new SentryError(
    'CS_ATTESTOR_UNKNOWN',
    `error getting node attestor: could not find node attestor type "${shown}"`,
  )
}

async function ask(
  context: ApiContext,
  { stream, challenge }: { readonly stream: Attestation; readonly challenge: Uint8Array },
): Promise<Uint8Array> {
  await stream.write({ step: { $case: 'challenge', value: challenge } })
  const answer = await nextMessage(context, stream)
  if (answer?.step?.$case === 'challengeResponse') return answer.step.value
  throw invalid('malformed param: missing challenge response')
}

function nextMessage(
  { clock, stopping }: ApiContext,
  stream: Attestation,
): Promise<AttestAgentRequest | undefined> {
  const late = () => invalid('failed to receive request from stream: it took too long')
  const signals = [stream.signal, stopping]
  return within({ clock, ms: STEP_TIMEOUT_MS, signals, late }, stream.read())
}

function refused(
  { audit, metrics, log }: ApiContext,
  refusal: { readonly error: unknown; readonly attestor: string; readonly requester: string },
): void {
  const { error, attestor, requester } = refusal
  const code = codeOf(error)
  metrics.attestationFailed({ attestor, reason: code })
  // Anybody can ask too often, and would fill the disk with records that say nothing else.
  const worthIt = !(error instanceof RateLimitError)
  log[worthIt ? 'warn' : 'debug']({ code, attestor }, 'attestation refused')
  if (worthIt) audit.record({ type: 'agent.denied.v1', requester, code, details: { attestor } })
}

function invalid(message: string): SentryError {
  return new SentryError('CS_ATTESTATION_INVALID', message)
}

import {
  DiagnosisService,
  type ExplainIdentityRequest,
  type ExplainIdentityResponse,
  type ExplainIdentityResponse_Candidate,
  type StatusRequest,
  type StatusResponse,
} from '../../proto/gen/countersign/agent/v1/local.js'
import type { Attestation, AttestedCaller } from '../attestation/caller.js'
import { AgentError } from '../errors.js'
import type { Identities } from '../identities/identities.js'
import {
  type Answer,
  type CallContext,
  type UnaryRequest,
  unaryHandler,
} from '../workload-api/calls.js'
import type { LocalService } from '../workload-api/local-server.js'
import { type Candidate, explainIdentity } from './explain.js'

export interface DiagnosisContext extends CallContext {
  readonly identities: Identities
  /** Paths that workloads reach the agent at. */
  readonly sockets: readonly string[]
  /** Lets callers ask about any process; only about themselves without it. */
  readonly anyProcess?: Attestation
}

/** What a process may learn of entries that are not its own: the nearest few that resemble it. */
const SHOWN_TO_CALLER = 5
const SHOWN_TO_OPERATOR = 20

/** Why a process does or does not get an identity, and how the agent is. */
export function diagnosisService(context: DiagnosisContext): LocalService {
  return {
    definition: DiagnosisService,
    handlers: {
      explainIdentity: unaryHandler<ExplainIdentityRequest, ExplainIdentityResponse>(context, {
        rpc: 'ExplainIdentity',
        serve: (request) => explain(request, context),
      }),
      status: unaryHandler<StatusRequest, StatusResponse>(context, {
        rpc: 'Status',
        serve: (request) => tellStatus(request, context),
      }),
    },
  }
}

async function explain(
  request: UnaryRequest<ExplainIdentityRequest>,
  { identities, anyProcess }: DiagnosisContext,
): Promise<Answer<ExplainIdentityResponse>> {
  const subject = await subjectOf(request, anyProcess)
  const entries = identities.entries()
  const { candidates, code, text } = explainIdentity({
    selectors: subject.selectors,
    entries,
    ready: identities.ready(),
    svidOf: (entry) => identities.x509Svid(entry),
    maxCandidates: anyProcess ? SHOWN_TO_OPERATOR : SHOWN_TO_CALLER,
    onlyRelated: !anyProcess,
  })
  const response = {
    pid: subject.facts.pid,
    selectors: [...subject.selectors],
    candidates: candidates.map(candidateMessage),
    code,
    explanation: text,
    considered: entries.length,
  }
  return { response, granted: { subject: subject.facts.pid, code } }
}

async function subjectOf(
  { request: { pid }, connection, attest, signal }: UnaryRequest<ExplainIdentityRequest>,
  anyProcess: Attestation | undefined,
): Promise<AttestedCaller> {
  const caller = await attest()
  if (pid === 0 || pid === connection.caller.pid) return caller
  if (!anyProcess) throw new AgentError('CS_NOT_THE_CALLER', `caller asked about process ${pid}`)
  return attestOther(pid, anyProcess, signal)
}

async function attestOther(
  pid: number,
  attestation: Attestation,
  signal: AbortSignal,
): Promise<AttestedCaller> {
  try {
    const other = attestation.processWithPid(pid)
    try {
      return await other.attest(signal)
    } finally {
      other.close()
    }
  } catch (error) {
    if (!(error instanceof AgentError) || error.code !== 'CS_CALLER_NOT_ATTESTED') throw error
    throw new AgentError('CS_PROCESS_NOT_FOUND', `process ${pid} cannot be looked at`, {
      cause: error,
    })
  }
}

function candidateMessage({
  entry,
  missing,
  svidExpiresAt,
}: Candidate): ExplainIdentityResponse_Candidate {
  return {
    entryId: entry.id,
    spiffeId: entry.spiffeId,
    matches: missing.length === 0,
    selectors: [...entry.selectors],
    missing: [...missing],
    svidReady: svidExpiresAt !== undefined,
    svidExpiresAt: seconds(svidExpiresAt),
  }
}

async function tellStatus(
  { attest }: UnaryRequest<StatusRequest>,
  { identities, sockets }: DiagnosisContext,
): Promise<Answer<StatusResponse>> {
  await attest()
  const status = identities.status()
  const response = {
    agentId: status.agentId ?? '',
    serialNumber: status.serialNumber ?? '',
    svidExpiresAt: seconds(status.svidExpiresAt),
    lastSyncAt: seconds(status.lastSyncAt),
    connected: status.connected,
    sequence: status.sequence,
    entries: status.entries,
    x509Svids: status.x509Svids,
    jwtSvids: status.jwtSvids,
    sockets: [...sockets],
    trustDomains: [...status.trustDomains],
  }
  return { response, granted: {} }
}

function seconds(ms: number | undefined): bigint {
  return BigInt(Math.floor((ms ?? 0) / 1000))
}

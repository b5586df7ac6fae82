import { type Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js'
import { type Command, Option } from 'commander'
import {
  DiagnosisClient,
  type ExplainIdentityResponse,
  type StatusResponse,
} from '../proto/gen/countersign/agent/v1/local.js'
import { ENDPOINT_VARIABLE, parseEndpointAddress } from '../spiffe/workload-api/index.js'
import type { CliContext } from './context.js'
import { exitCode } from './context.js'
import { CliError } from './errors.js'
import { outputOption } from './sentry-client.js'

const DEFAULT_SOCKET = '/run/countersign/agent/public/agent.sock'
const CALL_TIMEOUT_MS = 10_000

/** Adds `--agent-socket` and `-o` to a command that asks the agent. */
export function withAgent(command: Command): Command {
  return command.addOption(agentSocketOption()).addOption(outputOption())
}

export function agentSocketOption(): Option {
  return new Option(
    '--agent-socket <path>',
    `socket of the agent (default: SPIFFE_ENDPOINT_SOCKET, else ${DEFAULT_SOCKET})`,
  ).env('COUNTERSIGN_AGENT_SOCKET')
}

/** The path of the agent's socket: as given, else that of the Workload API of this environment. Throws `CS_SOCKET_INVALID`. */
export function agentSocket(
  given: string | undefined,
  context: Pick<CliContext, 'environment'>,
): string {
  if (given !== undefined) return given
  const endpoint = context.environment[ENDPOINT_VARIABLE]
  const address = endpoint === undefined ? undefined : parseEndpointAddress(endpoint)
  return address?.kind === 'unix' ? address.path : DEFAULT_SOCKET
}

/** What the agent says of itself and of its callers. */
export interface AgentDiagnosis {
  /** `pid` 0 asks for the caller itself; another pid needs the agent's private socket. */
  explainIdentity(pid: number): Promise<ExplainIdentityResponse>
  status(): Promise<StatusResponse>
  close(): void
}

export function agentDiagnosis(socketPath: string): AgentDiagnosis {
  const client = new DiagnosisClient(`unix:${socketPath}`, credentials.createInsecure())
  const metadata = new Metadata()
  metadata.set('workload.spiffe.io', 'true')
  // gRPC compares it with the clock of the machine, whatever time the command is told.
  const options = () => ({ deadline: Date.now() + CALL_TIMEOUT_MS })
  return {
    explainIdentity: (pid) =>
      answerOf((done) => client.explainIdentity({ pid }, metadata, options(), done), socketPath),
    status: () => answerOf((done) => client.status({}, metadata, options(), done), socketPath),
    close: () => (client as Client).close(),
  }
}

function answerOf<A>(
  call: (done: (error: ServiceError | null, answer: A) => void) => unknown,
  socketPath: string,
): Promise<A> {
  return new Promise((resolve, reject) => {
    call((error, answer) => {
      if (error) reject(errorOf(error, socketPath))
      else resolve(answer)
    })
  })
}

function errorOf(error: ServiceError, socketPath: string): CliError {
  switch (error.code) {
    case status.UNAVAILABLE:
    case status.DEADLINE_EXCEEDED:
      return new CliError('CS_AGENT_UNREACHABLE', `no agent answers at ${socketPath}`, {
        cause: error,
        exit: exitCode.unavailable,
      })
    case status.PERMISSION_DENIED:
    case status.UNAUTHENTICATED:
      return new CliError('CS_REQUEST_REFUSED', `the agent refused: ${error.details}`, {
        cause: error,
        exit: exitCode.notAuthorised,
      })
    default:
      return new CliError('CS_REQUEST_REFUSED', `the agent refused: ${error.details}`, {
        cause: error,
      })
  }
}
